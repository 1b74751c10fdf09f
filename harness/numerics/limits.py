"""How far apart the stages of one step may be: provisional limits, until they are measured by twins.

A limit is 45 eps of the quantity's largest magnitude, as in `lockstep.harness.core.tolerance.FIXED`, or 45 times the spread of the
same step from inputs disturbed by one eps, whichever is larger. The spread is what a step makes of rounding: it covers
cancellation (a gradient near the optimum, a bias before a batch norm) and what an optimizer magnifies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.adoption import leaves, mapped
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, Trainer
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.stages import stages_of

Limits = Callable[[Snapshot, Batch], Mapping[str, float]]
"""(state before the step, batch) -> the largest distance that passes, by the name of the stage."""

UNITS = 45
"""The same as in `lockstep.harness.core.tolerance.FIXED`, measured there."""

TERMS = 16
"""Rows whose sum UNITS cover; the rounding of longer sums grows like their root (Higham, Mary, 2019)."""

SUMMED = frozenset({"loss", "gradient", "buffers", "step"})
"""Kinds of stage that come from sums over the rows of a batch."""

SAMPLES = 3
"""Disturbed copies. A scalar's spread is by chance 45 times too small in all three once in 10⁵."""


def fixed_limits(problem: RunSpec, trainer: Trainer) -> Limits:
    """Limits from the trainer's own step and a few disturbed ones."""
    eps = float(np.finfo(problem.dtype).eps)

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        with np.errstate(all="ignore"):  # a diverging step is judged by its numbers
            exact = stages_of(trainer, snapshot, batch)
            grads = gradients(exact)
            spread: dict[str, float] = dict.fromkeys(exact, 0.0)
            for seed in range(SAMPLES):
                disturb = disturbance(seed, eps)
                near = stages_of(trainer, snapshot.each(disturb), _dealt(batch, disturb), disturb(grads))
                spread = {name: max(spread[name], _apart(exact[name], near[name])) for name in exact}
            return {
                name: UNITS * max(eps * _sums(name, batch) * _scale(name, exact), spread[name])
                for name in exact
            }

    return limits


def _sums(name: str, batch: Batch) -> float:
    """By how much the sums behind a stage are longer than those that UNITS cover, as rounding grows."""
    rows = len(np.atleast_1d(next(iter(leaves(batch.x).values()))))
    return max(1.0, math.sqrt(rows / TERMS)) if name.partition("/")[0] in SUMMED else 1.0


def gradients(stages: Arrays) -> dict[str, Array]:
    """The gradients among the stages of a step, by parameter."""
    return {
        name.removeprefix("gradient/"): value
        for name, value in stages.items()
        if name.startswith("gradient/")
    }


def disturbance(seed: int, eps: float) -> Callable[[Arrays], dict[str, Array]]:
    """Moves every element of named arrays by ±eps of itself; whole numbers may be ids and stay."""
    rng = np.random.default_rng(seed)

    def disturb(arrays: Arrays) -> dict[str, Array]:
        return {name: _disturbed(value, eps, rng) for name, value in arrays.items()}

    return disturb


def _disturbed(value: Array, eps: float, rng: np.random.Generator) -> Array:
    signs = rng.choice((-1.0, 1.0), value.shape)
    if (value == np.floor(value)).all():
        return value.copy()
    moved: Array = (value.astype(np.float64) * (1 + eps * signs)).astype(value.dtype)
    return moved


def _dealt(batch: Batch, disturb: Callable[[Arrays], dict[str, Array]]) -> Batch:
    """A user's own batch may be trees of arrays."""
    x, y = (mapped(lambda leaf: disturb({"": leaf})[""], part) for part in (batch.x, batch.y))
    return Batch(x, y, batch.masks)


def _apart(left: Array, right: Array) -> float:
    distance = np.abs(left.astype(np.float64) - right)
    return float(np.nan_to_num(distance, nan=np.inf).max(initial=0.0))


def _scale(name: str, stages: Arrays) -> float:
    """The quantity's largest magnitude; of an update, which is a difference of parameters, at least theirs."""
    values = [stages[name]]
    if name.startswith("update/"):
        values.append(stages[name.replace("update/", "state/parameters/", 1)])
    return max(float(np.abs(value.astype(np.float64)).max(initial=0.0)) for value in values)
