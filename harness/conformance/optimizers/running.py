"""One side driven over a course: plainly, altered, or as a twin that is disturbed within rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot, State
from lockstep.harness.adopt.measured import UPDATE
from lockstep.harness.conformance.optimizers.sequences import Course

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
    """At the course's start; updates ahead are made of zeros from zeros, so that a decay moves nothing, either."""
    if not ahead:
        return side.begin(course.start)
    nothing = {name: np.zeros_like(value) for name, value in course.start.items()}
    state = side.begin(nothing)
    for _ in range(ahead):
        state = side.update(state, side.write_grads(nothing))
    return side.write(state, course.start)


def twin(side: OptimizerSide, course: Course, seed: int, eps: float) -> Path:
    """The same path with every parameter and gradient off by one eps before each update, the update by UPDATE eps."""
    signs = _signs(course, seed)
    with np.errstate(all="ignore"):
        state = side.begin(course.start)
        seen = [side.read(state).parameters]
        for step, grads in enumerate(course.gradients):
            before = {name: _off(value, eps * signs[name][step, 0]) for name, value in seen[-1].items()}
            given = {name: _off(value, eps * signs[name][step, 1]) for name, value in grads.items()}
            state = side.update(side.write(state, before), side.write_grads(given))
            after = {
                # As by one whose hyperparameters are rounded: of a parameter all elements the same way.
                name: _off(value, UPDATE * eps * signs[name][step, 2].flat[0], value - before[name])
                for name, value in side.read(state).parameters.items()
            }
            state = side.write(state, after)
            seen.append(after)
    return {name: np.stack([one[name] for one in seen]) for name in course.start}


def _signs(course: Course, seed: int) -> dict[str, Array]:
    """By parameter, (updates, 3, ...): which way it, its gradient and its update are off."""
    rng, updates = np.random.default_rng(seed), len(course.gradients)
    return {
        name: 2.0 * rng.integers(0, 2, (updates, 3, *value.shape)) - 1.0
        for name, value in course.start.items()
    }


def _off(value: Array, share: Array, size: Array | None = None) -> Array:
    """Off by a share of itself, or of `size`; in double, then rounded."""
    off: Array = (value + share * (value if size is None else size)).astype(value.dtype)
    return off
