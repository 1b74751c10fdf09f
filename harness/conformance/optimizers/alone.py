"""What an optimizer must keep to whoever it equals: what it is given, what it has saved, and its own word."""

from __future__ import annotations

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.problem import Arrays
from lockstep.harness.conformance.optimizers import sequences as courses
from lockstep.harness.conformance.optimizers.pair import Found, Pair
from lockstep.harness.conformance.optimizers.running import Path, path
from lockstep.harness.conformance.optimizers.sequences import Course
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.core.verdict import Verdict

SAVED = 5
"""The update after which a state is saved."""


def form(pair: Pair, dtype: str) -> Found:
    """Every parameter keeps its dtype and its shape."""
    course = pair.course(courses.first, dtype)
    for name, value in pair.path(0, courses.first, dtype).items():
        was = course.start[name]
        if (value.dtype, value.shape[1:]) != (was.dtype, was.shape):
            return Found(
                Verdict.DIFFER, f"{name}: {value.dtype} {value.shape[1:]} for {was.dtype} {was.shape}"
            )
    return Found(Verdict.AGREE)


def kept(pair: Pair, dtype: str) -> Found:
    """Gradients, and the parameters that a run starts from, are read and not changed."""
    side, course = pair.sides[0], pair.course(courses.stopping, dtype)
    start = {name: value.copy() for name, value in course.start.items()}
    with np.errstate(all="ignore"):
        state = side.begin(start)
        for step, arrays in enumerate(course.gradients):
            given = side.write_grads(arrays)
            state = side.update(state, given)
            if odd := _odd(side.read_grads(given), arrays):
                return Found(Verdict.DIFFER, f"update {step + 1} changes the gradient of {odd} in place")
    if odd := _odd(start, course.start):
        return Found(Verdict.DIFFER, f"the array that {odd} starts from is changed in place")
    return Found(Verdict.AGREE)


def continues(pair: Pair, dtype: str) -> Found:
    """Saved and loaded into a fresh optimizer, it goes on as if nothing had been, to the bit."""
    side, course = pair.sides[0], pair.course(courses.spike, dtype)
    straight, resumed = path(side, course), _resumed(side, course)
    return _same(resumed, straight, f"saved after update {SAVED} and loaded into a fresh optimizer")


def _resumed(side: OptimizerSide, course: Course) -> Path:
    with np.errstate(all="ignore"):
        state = side.begin(course.start)
        seen = [side.read(state).parameters]
        for step, grads in enumerate(course.gradients):
            if step == SAVED:
                state = side.resumed(state)
            state = side.update(state, side.write_grads(grads))
            seen.append(side.read(state).parameters)
    return {name: np.stack([one[name] for one in seen]) for name in course.start}


def repeats(pair: Pair, dtype: str) -> Found:
    """A second optimizer, made anew, does the same as the first, to the bit."""
    course = pair.course(courses.stopping, dtype)
    return _same(path(side_of(pair.given[0]), course), path(pair.sides[0], course), "run a second time")


def _same(found: Path, expected: Path, when: str) -> Found:
    steps = len(next(iter(expected.values())))
    for step in range(steps):
        for name, value in expected.items():
            if found[name][step].tobytes() != value[step].tobytes():
                off = np.abs(found[name][step].astype(np.float64) - value[step]).max(initial=0.0)
                return Found(Verdict.DIFFER, f"{when}, update {step} leaves {name} {off:.2g} away")
    return Found(Verdict.AGREE)


def _odd(found: Arrays, expected: Arrays) -> str:
    """The first name whose array is not the same to the bit; empty if there is none."""
    return next((name for name, value in expected.items() if found[name].tobytes() != value.tobytes()), "")
