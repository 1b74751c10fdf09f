"""The masks that JAX code draws, observed and replaced where its program calls `jax.random.bernoulli`: nothing of the code is changed.

Dropout of Haiku, of Flax, of Equinox and of plain JAX all come down to it. The code is traced, as `jax.jit` traces it, and the
program is run with the masks in place of its draws. Those inside a loop (scan, while) or a branch are not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from lockstep.backends.adoption import Draw, Given
from lockstep.backends.problem import Arrays

CALLS = ("jit", "pjit", "checkpoint", "remat")
"""Primitives whose program may as well stand in place of its call."""

Drawn = Callable[[Any, Any], Any]
"""(the equation, the probability of 1) -> the mask."""


def observed(function: Callable[..., Any], *arguments: Any) -> tuple[Draw, ...]:
    """The masks that ``function(*arguments)`` draws."""
    traced = jax.make_jaxpr(function)(*arguments)
    if not _draws(traced.jaxpr):
        return ()
    places: list[tuple[str, tuple[int, ...]]] = []

    @jax.jit
    def probabilities_of_one(arguments: Any) -> list[Any]:
        """Of each mask; the code may compute them."""
        probabilities: list[Any] = []

        def drawn(equation: Any, probability: Any) -> Any:
            shape = equation.outvars[0].aval.shape
            places.append((str(equation.source_info.name_stack) or f"draw {len(places)}", shape))
            probabilities.append(probability)
            return jnp.ones(shape, bool)

        _run(traced.jaxpr, traced.consts, jax.tree.leaves(arguments), drawn)
        return probabilities

    probabilities = [float(np.asarray(one)) for one in probabilities_of_one(arguments)]
    return tuple(
        Draw(place, 1 - one, shape) for one, (place, shape) in zip(probabilities, places, strict=True)
    )


def replaced(name: str, function: Callable[..., Any], masks: Arrays) -> Callable[..., Any]:
    """The function with these masks in place of those that it would draw.

    Raises:
        AdoptionError: when it is called, others are drawn than these.
    """
    if not masks:
        return function

    def masked(*arguments: Any) -> Any:
        traced, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        left = Given(name, masks)
        values = _run(
            traced.jaxpr,
            traced.consts,
            jax.tree.leaves(arguments),
            lambda equation, _: left.next(equation.outvars[0].aval.shape),
        )
        left.end()
        return jax.tree.unflatten(jax.tree.structure(result), values)

    return masked


def _run(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any], drawn: Drawn) -> list[Any]:
    """The results of a program, each draw of a mask made by `drawn`."""
    environment = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else environment[variable]

    for equation in jaxpr.eqns:
        values = [value(one) for one in equation.invars]
        inner = _called(equation)
        if _is_draw(equation):
            results = [drawn(equation, values[1])]
        elif inner is not None and _draws(inner[0]):
            results = _run(*inner, values, drawn)
        else:
            result = _bound(equation, values)
            results = result if equation.primitive.multiple_results else [result]
        environment.update(zip(equation.outvars, results, strict=True))
    return [value(one) for one in jaxpr.outvars]


def _bound(equation: Any, values: Sequence[Any]) -> Any:
    """The equation as it is; before JAX 0.10 the functions that it holds were arguments."""
    settings = equation.primitive.get_bind_params(equation.params)
    functions, settings = settings if isinstance(settings, tuple) else ((), settings)
    return equation.primitive.bind(*functions, *values, **settings)


def _is_draw(equation: Any) -> bool:
    """Whether it is a call of `jax.random.bernoulli` with one probability for all elements."""
    return (
        equation.primitive.name in CALLS
        and equation.params.get("name") == "_bernoulli"
        and not equation.invars[1].aval.shape
    )


def _called(equation: Any) -> tuple[Jaxpr, Sequence[Any]] | None:
    """The program that an equation calls as it is."""
    if equation.primitive.name not in CALLS:
        return None
    inner = equation.params["jaxpr"]
    return (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())


def _draws(jaxpr: Jaxpr) -> bool:
    """Whether a program draws masks that can be reached."""
    return any(
        _is_draw(one) or ((inner := _called(one)) is not None and _draws(inner[0])) for one in jaxpr.eqns
    )
