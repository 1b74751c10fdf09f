"""A traced program in which nothing is computed in less than float64: float32 of the user's code, and of libraries, becomes float64.

A value whose type in the program is a narrower float is held in float64 from where it is made. What types its operands
itself (a loop of unknown length, a function with a backward pass of its own, bits of a float) gets them as they were, so that
its rounding stays. A function with a derivative rule of its own is differentiated by what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from lockstep.backends.adoption import Narrow, Tree
from lockstep.backends.errors import line_of
from lockstep.backends.jax_haiku.adoption.programs import Place, Running, Tape, bound, held, opened

WIDE = np.dtype(np.float64)

KNOWN = tuple(
    sign * one
    for one in map(float, np.sqrt([2, 0.5, np.pi, 2 * np.pi, 2 / np.pi, 1 / np.pi, 4 / np.pi]))
    for sign in (1, -1)
)
"""Constants in the formulas of GELU and of normal distributions; π itself and logarithms are computed where they are needed."""

TYPED = frozenset({"bitcast_convert_type", "nextafter"})
"""Primitives that are about the bits of their operands."""


def narrow(dtype: Any) -> bool:
    """Whether it is a float of fewer bits than float64."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.dtype(dtype).itemsize < WIDE.itemsize


def wide(tree: Tree) -> Tree:
    """The tree with its narrower floats in float64."""
    return jax.tree.map(
        lambda one: jnp.asarray(one, WIDE) if narrow(getattr(one, "dtype", WIDE)) else one, tree
    )


def widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of trees of arrays, computed in float64; so are its results."""

    def run(*arguments: Any) -> Any:
        program, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        values, _ = _Widening().run(program, jax.tree.leaves(wide(arguments)), None)
        return jax.tree.unflatten(jax.tree.structure(result), values)

    return run


def narrowed(function: Callable[..., Any], *arguments: Any) -> tuple[Narrow, ...]:
    """Where the function computes in a narrower float what it is given in float64, or what it makes itself."""
    places = [
        Narrow(line_of(_frames(one)), str(one.outvars[0].aval.dtype))
        for one in _equations(jax.make_jaxpr(function)(*arguments))
        if _narrows(one)
    ]
    return tuple(dict.fromkeys(places))


class _Widening(Running):
    """Every value that is a narrower float in the program is float64 here."""

    def constant(self, value: Any, form: Any) -> Any:
        if not narrow(form.dtype):
            return value
        return jnp.asarray(_as_written(value, form.dtype) if not form.shape else value, WIDE)

    def programs(self, equation: Any) -> Sequence[ClosedJaxpr | Jaxpr]:
        ruled = equation.params.get("call_jaxpr") if "jvp_jaxpr_fun" in equation.params else None
        return held(equation) if ruled is None else [ruled]

    def enters(self, equation: Any) -> bool:
        programs = self.programs(equation)
        return bool(programs) and any(map(_has_narrow, [equation, *_equations_of(programs)]))

    def leaf(
        self, equation: Any, values: Sequence[Any], place: Place, tape: Tape
    ) -> tuple[Sequence[Any], Tape]:
        if not _has_narrow(equation):
            return bound(equation, values), tape
        if equation.primitive.name == "reduce_precision":
            return values, tape
        if equation.primitive.name in TYPED or any(map(_programs_in, equation.params.values())):
            return wide(list(bound(equation, _as_typed(equation, values)))), tape
        types = {name: WIDE for name, one in equation.params.items() if _is_narrow_type(one)}
        return wide(list(bound(equation, values, **types))), tape


def _as_written(value: Any, dtype: Any) -> float:
    """What the source says, where a narrower float made 9.99999997e-7 of 1e-6: a known constant, or the shortest decimal."""
    rounded = np.asarray(value, dtype)
    known = [one for one in KNOWN if np.asarray(one, dtype) == rounded]
    return known[0] if known else float(str(rounded))


def _as_typed(equation: Any, values: Sequence[Any]) -> list[Any]:
    """The operands in the types that the program has them in."""
    return [
        jnp.asarray(value, variable.aval.dtype) if narrow(variable.aval.dtype) else value
        for value, variable in zip(values, equation.invars, strict=True)
    ]


def _has_narrow(equation: Any) -> bool:
    """Whether an operand or a result of it is a narrower float."""
    return any(narrow(one.aval.dtype) for one in (*equation.invars, *equation.outvars))


def _narrows(equation: Any) -> bool:
    """Whether its result is a narrower float, and no operand is."""
    result = any(narrow(one.aval.dtype) for one in equation.outvars)
    return result and not any(narrow(one.aval.dtype) for one in equation.invars)


def _equations(program: ClosedJaxpr | Jaxpr) -> Iterator[Any]:
    """All of a program that hold no others, and of those that they hold."""
    for one in opened(program)[0].eqns:
        inner = [each for value in one.params.values() for each in _programs_in(value)]
        yield from _equations_of(inner) if inner else [one]


def _equations_of(programs: Iterable[ClosedJaxpr | Jaxpr]) -> Iterator[Any]:
    for one in programs:
        yield from _equations(one)


def _programs_in(value: Any) -> Sequence[Any]:
    several = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in several if isinstance(one, (ClosedJaxpr, Jaxpr))]


def _is_narrow_type(value: Any) -> bool:
    return isinstance(value, np.dtype) and narrow(value)


def _frames(equation: Any) -> list[tuple[str, int]]:
    """(file, line) of the calls that led to it, the innermost first."""
    traceback = equation.source_info.traceback
    return [] if traceback is None else [(one.file_name, one.line_num) for one in traceback.frames]
