"""Two free runs compared within what rounding can grow to: the distance of the reference to itself, disturbed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.problem import Array, Problem
from lockstep.backends.protocol import Trace
from lockstep.harness.core.ledger import Ledger, Row, compare
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.limits import SAMPLES, UNITS, disturbance

LOSS = "loss"

Course = Mapping[str, Array]
"""What a run is compared in: ``loss`` (steps,), and ``parameters/``, ``buffers/``, ``average/<name>`` at its end."""


Train = Callable[[Problem], Trace]
"""How a problem is trained: a whole run."""


def course(trace: Trace) -> dict[str, Array]:
    """The losses and the final state; the optimizer's own state is compared in lockstep."""
    last = trace.final
    kinds = {"parameters": last.parameters, "buffers": last.buffers, "average": last.average}
    ended = {f"{kind}/{name}": value for kind, arrays in kinds.items() for name, value in arrays.items()}
    return {LOSS: trace.losses, **ended}


def growth_limits(problem: Problem, train: Train) -> dict[str, Array]:
    """The largest distance that rounding explains, by quantity, of each quantity's shape.

    UNITS times eps of the quantity's scale, or times the distance to runs from inputs and initial parameters that are
    disturbed by one eps, whichever is larger; of a loss, the largest distance up to that step. Provisional, until
    every operation is disturbed.

    Args:
        problem: what is trained.
        train: how, a whole run.
    """
    eps = float(np.finfo(problem.dtype).eps)
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        exact = course(train(problem))
        apart = {name: np.zeros(value.shape) for name, value in exact.items()}
        for seed in range(SAMPLES):
            near = course(train(_disturbed(problem, seed, eps)))
            apart = {name: np.fmax(apart[name], _distance(exact[name], near[name])) for name in exact}
        return {
            name: np.maximum(limit, UNITS * _spread(name, apart[name]))
            for name, limit in rounding_limits(problem.dtype, exact).items()
        }


def rounding_limits(dtype: str, exact: Course) -> dict[str, Array]:
    """UNITS times eps of each quantity's scale, of its shape."""
    eps = float(np.finfo(dtype).eps)
    return {name: UNITS * eps * _scale(name, value) for name, value in exact.items()}


def compare_courses(left: Course, right: Course, limits: Course, prefix: str = "") -> Ledger:
    """One row a quantity; that of the losses has the first step that parts, the others have the last step."""
    last = len(left[LOSS]) - 1
    rows = []
    for name in dict.fromkeys((*left, *right)):
        if name not in left or name not in right:
            side = "the reference" if name not in left else "the other side"
            rows.append(Row(last, prefix + name, Verdict.DIFFER, f"missing from {side}"))
        elif name == LOSS and left[name].shape == right[name].shape:
            rows.append(
                _losses(prefix + name, left[name], right[name], _fitting(limits.get(name), left[name]))
            )
        else:
            limit = float(_fitting(limits.get(name), left[name]).max(initial=0.0))
            rows.append(compare(last, prefix + name, left[name], right[name], limit))
    return Ledger(tuple(rows))


def _fitting(limits: Array | None, value: Array) -> Array:
    """Limits of the value's shape: those of a run of another length, or none, do not say which element they are of."""
    if limits is not None and limits.shape == value.shape:
        return limits
    return np.full(value.shape, np.nan if limits is None else limits.max(initial=0.0))


def _losses(name: str, left: Array, right: Array, limits: Array) -> Row:
    """The first step whose losses part; if none does, the last one that can be judged."""
    finite = np.isfinite(left) & np.isfinite(right)
    with np.errstate(all="ignore"):
        parted = ~finite | (np.abs(left.astype(np.float64) - right) > limits)
    step = int(parted.argmax()) if parted.any() else len(left) - 1
    row = compare(step, name, left[step : step + 1], right[step : step + 1], float(limits[step]))
    row = dataclasses.replace(row, index=(step,), scale=max(row.scale, float(np.abs(left[0]))))
    if row.verdict is Verdict.INCONCLUSIVE and row.limit < row.scale:  # small, but beside the first loss
        return dataclasses.replace(row, verdict=Verdict.AGREE, reason="")
    return row


def _disturbed(problem: Problem, seed: int, eps: float) -> Problem:
    disturb = disturbance(seed, eps)
    return problem.replace(**disturb({"x": problem.x, "y": problem.y}), initial=disturb(problem.initial))


def _distance(left: Array, right: Array) -> Array:
    return np.nan_to_num(np.abs(left.astype(np.float64) - right), nan=np.inf)


def _scale(name: str, value: Array) -> Array:
    """Of a loss the larger of it and the first, of anything else the largest magnitude."""
    magnitude: Array = np.nan_to_num(np.abs(value.astype(np.float64)))
    return (
        magnitude.clip(min=magnitude[0]) if name == LOSS else np.full(value.shape, magnitude.max(initial=0.0))
    )


def _spread(name: str, apart: Array) -> Array:
    """One element's spread may be small by chance: of a loss the largest so far counts, of others the largest of all."""
    return np.maximum.accumulate(apart) if name == LOSS else np.full(apart.shape, apart.max(initial=0.0))
