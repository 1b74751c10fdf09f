"""What one side does otherwise: hypotheses, each tested by making the other side do it, on every course.

Of one of the catalogue the formula is known, and all that is known to go wrong with it is tried (`lockstep.harness.diagnose.explanations`).
What one of the frameworks' own states by its class and arguments is such a formula, if it is found to follow it. Of any two,
what can be read off their updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.problem import CONSTANT, Optimizer, Schedule
from lockstep.harness.conformance.optimizers.checks import COURSES
from lockstep.harness.conformance.optimizers.guesses import guesses
from lockstep.harness.conformance.optimizers.limits import apart, measured
from lockstep.harness.conformance.optimizers.pair import Pair
from lockstep.harness.conformance.optimizers.running import PLAIN, Alteration
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.conformance.problems import square
from lockstep.harness.diagnose.explain import Confirmed
from lockstep.harness.diagnose.explanations import EXPLANATIONS, variants_of
from lockstep.harness.runs.free_run import RAISED

SINGLE = "single precision"

VISIBLE = 1e-4
"""Of how far a parameter came: what is further apart is nothing that single precision does."""


@runtime_checkable
class Stated(Protocol):
    """A side that may know which formula of the catalogue it is."""

    def formula(self) -> Optimizer | None:
        """That formula, as far as its arguments say; None where none is stated."""


class Hypothesis(NamedTuple):
    """What a side may do otherwise.

    Attributes:
        seen: the index of the side that may do it.
        side: the other one, or the formula that it follows.
        alteration: how that is made to do it.
    """

    seen: int
    side: OptimizerSide
    alteration: Alteration


def explain(pair: Pair, dtype: str) -> Confirmed | None:
    """The first hypothesis that makes the two agree on every course, or None."""
    if dtype not in pair.explanations:
        pair.explanations[dtype] = _explained(pair, dtype)
    return pair.explanations[dtype]


def _explained(pair: Pair, dtype: str) -> Confirmed | None:
    with np.errstate(all="ignore"):  # what is not finite is judged by its numbers
        if not _holds(partial(_runs, pair, dtype)):
            return None
        if dtype == "float64" and _holds(partial(_single, pair)):
            told = "the two are the same to single precision: one of them forms a number in float32"
            return Confirmed(SINGLE, told)
        for one in _hypotheses(pair, dtype):
            if _holds(partial(pair.explained, one.seen, one.side, one.alteration, dtype, COURSES)):
                return Confirmed(one.alteration.name, f"{pair.names[one.seen]} {one.alteration.does}")
    return None


def _holds(test: Callable[[], bool]) -> bool:
    """Whether a test passes; what cannot be run explains nothing."""
    try:
        return test()
    except RAISED:  # whatever an optimizer raises, or an alteration that is about something else
        return False


def _runs(pair: Pair, dtype: str) -> bool:
    """Whether both sides get through every course."""
    return all(pair.path(index, make, dtype) for index in (0, 1) for make in COURSES)


def _hypotheses(pair: Pair, dtype: str) -> Iterator[Hypothesis]:
    for seen in (0, 1):
        if formula := _given(pair.given[1 - seen]):
            yield from _known(seen, *formula, pair.updates)
    for swapped, alteration in guesses(pair, dtype):
        yield Hypothesis(int(swapped), pair.sides[1 - swapped], alteration)
    for seen in (0, 1):
        # Of a formula that was given it is known what it says, and so what the other does otherwise.
        stated = None if _given(pair.given[seen]) else _stated(pair, 1 - seen, dtype)
        if stated:
            yield from _known(seen, stated, CONSTANT, pair.updates)


def _given(given: object) -> tuple[Optimizer, Schedule] | None:
    """What was given as one of the catalogue."""
    optimizer, schedule = given if isinstance(given, tuple) and len(given) == 2 else (given, CONSTANT)
    if isinstance(optimizer, Optimizer) and isinstance(schedule, Schedule):
        return optimizer, schedule
    return None


def _stated(pair: Pair, index: int, dtype: str) -> Optimizer | None:
    """The formula that a side says it is, if it does what that does."""
    side = pair.sides[index]
    stated = side.formula() if isinstance(side, Stated) else None
    if stated and _holds(partial(pair.explained, index, side_of(stated), PLAIN, dtype, COURSES)):
        return stated
    return None


def _known(seen: int, optimizer: Optimizer, schedule: Schedule, updates: int) -> Iterator[Hypothesis]:
    """What is known to go wrong with an optimizer or a schedule of the catalogue, of any problem that has them."""
    problem = square(optimizer=optimizer, schedule=schedule, epochs=updates)
    for explanation in EXPLANATIONS:
        for variant in variants_of(explanation, problem, {}):
            changed = (variant.problem.optimizer, variant.problem.schedule)
            if (
                variant.turn is None
                and variant.start is None
                and (variant.settle or changed != (optimizer, schedule))
            ):
                does = variant.does.replace("the problem", "the formula")  # there is no problem here
                alteration = Alteration(explanation.name, does, settle=variant.settle)
                yield Hypothesis(seen, side_of(changed), alteration)


def _single(pair: Pair) -> bool:
    """Whether the two are as near in float64 as float32 would bring them, but no nearer."""
    found = {
        make: apart(pair.path(0, make, "float64"), pair.path(1, make, "float64"), "float64")
        for make in COURSES
    }
    for one in found.values():
        if not one.within({name: VISIBLE * moved for name, moved in one.moved.items()}):
            return False
    eps = float(np.finfo("float32").eps)
    return all(
        one.within(measured(pair.sides, pair.course(make, "float64"), eps)) for make, one in found.items()
    )
