"""One side driven over a course: plainly, altered, or as a twin that is disturbed within rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backends.adoption import OptimizerSide
from backends.problem import Array, Arrays
from backends.protocol import Snapshot, State
from harness.adopted.measured import UPDATE
from harness.conformance.optimizers.courses import Course

Path = dict[str, Array]
"""(updates + 1, ...) for each parameter, the first entry the start."""


@dataclass(frozen=True)
class Alteration:
    """How a side is made to do what the other is believed to do.

    Attributes:
        name: of the explanation.
        does: what the other does then, to go after its name.
        ahead: updates that are made beforehand, by gradients of zero, and taken back.
        turn: (gradients, parameters, number of the update from 0) -> gradients.
        settle: (state before an update, after it) -> the state whose parameters training goes on with.
    """

    name: str
    does: str
    ahead: int = 0
    turn: Callable[[Arrays, Arrays, int], Arrays] | None = None
    settle: Callable[[Snapshot, Snapshot], Snapshot] | None = None


PLAIN = Alteration("", "")


def path(side: OptimizerSide, course: Course, alteration: Alteration = PLAIN) -> Path:
    """The parameters before the first update and after every one."""
    with np.errstate(all="ignore"):  # what is not finite is judged by its numbers
        state = _begun(side, course, alteration.ahead)
        seen = [side.read(state)]
        for step, grads in enumerate(course.gradients):
            if alteration.turn is not None:
                grads = alteration.turn(grads, seen[-1].parameters, step)
            state = side.update(state, side.write_grads(grads))
            after = side.read(state)
            if alteration.settle is not None:
                after = alteration.settle(seen[-1], after)
                state = side.write(state, after.parameters)
            seen.append(after)
    return {name: np.stack([one.parameters[name] for one in seen]) for name in course.start}


def _begun(side: OptimizerSide, course: Course, ahead: int) -> State:
    state = side.begin(course.start)
    nothing = {name: np.zeros_like(value) for name, value in course.start.items()}
    for _ in range(ahead):
        state = side.update(state, side.write_grads(nothing))
    return side.write(state, course.start) if ahead else state


def twin(side: OptimizerSide, course: Course, seed: int, eps: float) -> Path:
    """The same path with every parameter and gradient off by one eps before each update, the update by UPDATE eps."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        state = side.begin(course.start)
        seen = [side.read(state).parameters]
        for grads in course.gradients:
            before = _disturbed(seen[-1], eps, rng)
            state = side.write(state, before)
            state = side.update(state, side.write_grads(_disturbed(grads, eps, rng)))
            after = _rounded(before, side.read(state).parameters, UPDATE * eps, rng)
            state = side.write(state, after)
            seen.append(after)
    return {name: np.stack([one[name] for one in seen]) for name in course.start}


def _disturbed(arrays: Arrays, eps: float, rng: np.random.Generator) -> Arrays:
    return {name: _off(value, value, eps, rng) for name, value in arrays.items()}


def _rounded(before: Arrays, after: Arrays, eps: float, rng: np.random.Generator) -> Arrays:
    """Updates as by one whose hyperparameters are rounded: of a parameter all elements the same way."""
    return {
        name: (value + eps * rng.choice((-1.0, 1.0)) * (value.astype(np.float64) - before[name])).astype(
            value.dtype
        )
        for name, value in after.items()
    }


def _off(value: Array, size: Array, eps: float, rng: np.random.Generator) -> Array:
    off: Array = (value + eps * rng.choice((-1.0, 1.0), value.shape) * size.astype(np.float64)).astype(
        value.dtype
    )
    return off
