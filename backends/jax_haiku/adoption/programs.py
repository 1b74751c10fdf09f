"""A traced program, run equation by equation: with other results in place of some equations' own, say.

Loops of a known length (scan, fori_loop), branches (cond, switch), rematerialised calls (jax.checkpoint) and jitted ones are run
again as what they are. They are recognised by the programs that they hold, since JAX renames its primitives. What lies in a
while loop, in a function with a derivative of its own or in one that is spread over devices is not reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

Tape = Any
"""A tree of arrays that goes through the program in the order of its execution, from one replaced equation to the next."""

SCAN = frozenset({"jaxpr", "length", "num_carry", "num_consts", "reverse", "unroll"})
"""Settings by which a scan is recognised."""

TRANSFORMED = frozenset({"checkpoint", "rematted_computation", "while", "body", "cond", "closed_call"})
"""Words in the name of a place that JAX puts there itself."""

NO_CALL = frozenset({"mesh", "axis_name", "grid_mapping"})
"""Settings of calls whose program cannot stand in place of the call: it runs on a part of the arrays."""


@dataclass(frozen=True)
class Place:
    """Where in a program an equation is.

    Attributes:
        path: the names of the modules around it.
        recomputed: whether it is computed again for a derivative, as the body of `jax.checkpoint` is.
    """

    path: str = ""
    recomputed: bool = False

    def within(self, equation: Any) -> Place:
        """The place of what an equation holds, or its own."""
        name = _modules(str(equation.source_info.name_stack))
        path = name if name.startswith(self.path) else "/".join(one for one in (self.path, name) if one)
        return Place(path, self.recomputed or bool(equation.params.get("differentiated")))


class Running:
    """A way to run programs: equation by equation, through all that `held` opens."""

    def run(
        self,
        program: ClosedJaxpr | Jaxpr,
        inputs: Sequence[Any],
        tape: Tape,
        place: Place = Place(),
    ) -> tuple[list[Any], Tape]:
        """The results of a program, and the tape after it."""
        jaxpr, consts = opened(program)
        constants = [self.constant(one, its.aval) for one, its in zip(consts, jaxpr.constvars, strict=True)]
        environment = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

        def value(variable: Any) -> Any:
            if isinstance(variable, Literal):
                return self.constant(variable.val, variable.aval)
            return environment[variable]

        for equation in jaxpr.eqns:
            values = [value(one) for one in equation.invars]
            results, tape = self._results(equation, values, tape, place)
            environment.update(zip(equation.outvars, results, strict=True))
        return [value(one) for one in jaxpr.outvars], tape

    def constant(self, value: Any, form: Any) -> Any:
        """What stands for a constant of the program, which has this shape and dtype there."""
        return value

    def programs(self, equation: Any) -> Sequence[ClosedJaxpr | Jaxpr]:
        """Those that an equation holds and that can be run in its place: one, or one a branch."""
        return held(equation)

    def enters(self, equation: Any) -> bool:
        """Whether the programs of an equation are run in its place."""
        raise NotImplementedError

    def leaf(
        self, equation: Any, values: Sequence[Any], place: Place, tape: Tape
    ) -> tuple[Sequence[Any], Tape]:
        """The results of an equation that is not entered, and the tape after it."""
        raise NotImplementedError

    def _results(
        self, equation: Any, values: Sequence[Any], tape: Tape, place: Place
    ) -> tuple[Sequence[Any], Tape]:
        if not self.enters(equation):
            return self.leaf(equation, values, place, tape)
        inner = place.within(equation)
        if "branches" in equation.params:
            return self._branches(equation, values, tape, inner)
        if equation.params.keys() >= SCAN:
            return self._scan(equation, values, tape, inner)
        return self._call(equation, values, tape, inner)

    def _call(
        self, equation: Any, values: Sequence[Any], tape: Tape, place: Place
    ) -> tuple[Sequence[Any], Tape]:
        """Its program in place of the call; what is forgotten after the forward pass stays so."""
        (program,), settings = self.programs(equation), equation.params

        def call(values: Sequence[Any], tape: Tape) -> tuple[Sequence[Any], Tape]:
            return self.run(program, values, tape, place)

        if "policy" in settings:
            call = jax.checkpoint(call, prevent_cse=settings["prevent_cse"], policy=settings["policy"])
        return call(values, tape)

    def _branches(
        self, equation: Any, values: Sequence[Any], tape: Tape, place: Place
    ) -> tuple[Sequence[Any], Tape]:
        """The tape is that of the branch that is taken."""
        index, *inputs = values
        branches = [
            lambda inputs, tape, program=program: self.run(program, inputs, tape, place)
            for program in self.programs(equation)
        ]
        results: tuple[Sequence[Any], Tape] = lax.switch(index, branches, inputs, tape)
        return results

    def _scan(
        self, equation: Any, values: Sequence[Any], tape: Tape, place: Place
    ) -> tuple[Sequence[Any], Tape]:
        """The tape is carried from one iteration to the next."""
        (program,), settings = self.programs(equation), equation.params
        consts, carries = settings["num_consts"], settings["num_carry"]
        fixed, carry, each = values[:consts], values[consts : consts + carries], values[consts + carries :]

        def body(carried: Any, each: Any) -> tuple[Any, Any]:
            carry, tape = carried
            results, tape = self.run(program, (*fixed, *carry, *each), tape, place)
            return (results[:carries], tape), results[carries:]

        how = {name: settings[name] for name in ("length", "reverse", "unroll")}
        (carry, tape), collected = lax.scan(body, (list(carry), tape), list(each), **how)
        return [*carry, *collected], tape


@dataclass(frozen=True)
class Replacing(Running):
    """With other results in place of some equations' own.

    Attributes:
        wanted: whether an equation's result is replaced; it has one.
        result: (the equation, its inputs, its place, the tape) -> the result in its place, and the tape after it.
    """

    wanted: Callable[[Any], bool]
    result: Callable[[Any, Sequence[Any], Place, Tape], tuple[Any, Tape]]

    def most(self, program: ClosedJaxpr | Jaxpr) -> int:
        """How many equations a run of the program replaces at most; 0 where it replaces none."""
        return sum(self._most_of(one) for one in opened(program)[0].eqns)

    def _most_of(self, equation: Any) -> int:
        if self.wanted(equation):
            return 1
        counts = [self.most(one) for one in held(equation)]
        return int(equation.params.get("length", 1)) * max(counts, default=0)

    def enters(self, equation: Any) -> bool:
        return not self.wanted(equation) and self._most_of(equation) > 0

    def leaf(
        self, equation: Any, values: Sequence[Any], place: Place, tape: Tape
    ) -> tuple[Sequence[Any], Tape]:
        if not self.wanted(equation):
            return bound(equation, values), tape
        result, tape = self.result(equation, values, place.within(equation), tape)
        return [result], tape


def recomputes(program: ClosedJaxpr | Jaxpr) -> bool:
    """Whether it computes something again for a derivative: whether it is itself the program of a derivative."""
    return any(
        bool(one.params.get("differentiated")) or any(recomputes(inner) for inner in held(one))
        for one in opened(program)[0].eqns
    )


def held(equation: Any) -> Sequence[ClosedJaxpr | Jaxpr]:
    """The programs that an equation runs as they are, and that can be run in its place: one, or one a branch."""
    settings = equation.params
    if "branches" in settings:
        branches: Sequence[ClosedJaxpr] = settings["branches"]
        return branches
    program = settings.get("jaxpr")
    if not isinstance(program, (ClosedJaxpr, Jaxpr)) or not NO_CALL.isdisjoint(settings):
        return ()
    inputs, outputs = _forms(equation.invars), _forms(equation.outvars)
    jaxpr = opened(program)[0]
    same = _forms(jaxpr.invars) == inputs and _forms(jaxpr.outvars) == outputs
    return (program,) if same or settings.keys() >= SCAN else ()


def _modules(name_stack: str) -> str:
    """The names of modules alone: ``Model/Dropout_0`` of ``transpose(jvp(Model))/rematted_computation/Dropout_0``."""
    words = re.sub(r"\w*\(|\)", "", name_stack).split("/")
    return "/".join(one for one in words if one and one not in TRANSFORMED)


def _forms(variables: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Shape and dtype of each."""
    return [(one.aval.shape, one.aval.dtype) for one in variables]


def opened(program: ClosedJaxpr | Jaxpr) -> tuple[Jaxpr, Sequence[Any]]:
    """The program itself, and its constants."""
    return (program.jaxpr, program.consts) if isinstance(program, ClosedJaxpr) else (program, ())


def bound(equation: Any, values: Sequence[Any], **changed: Any) -> Sequence[Any]:
    """The results of the equation as it is, but for settings that are changed; before JAX 0.10 the functions that it holds were arguments."""
    settings = equation.primitive.get_bind_params(equation.params)
    functions, settings = settings if isinstance(settings, tuple) else ((), settings)
    results: Any = equation.primitive.bind(*functions, *values, **{**settings, **changed})
    return results if equation.primitive.multiple_results else [results]
