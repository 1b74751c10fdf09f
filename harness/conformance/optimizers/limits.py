"""How far apart rounding may bring two optimizers on one course: measured by twins of both sides.

No model stands behind the gradients, so the twins of adopted training (`lockstep.harness.adopt.measured`) are taken of the optimizer
alone: what an update is made of is disturbed by one eps, what it makes by UPDATE eps. Whoever is no further apart than what
the last addition of each update, w + u, rounds anyway is spared them: after k updates that is k eps of w, less than the
MULTIPLE spreads that twins of such a course would allow (about √k eps each) up to a thousand updates.

What an optimizer forms of its hyperparameters and then subtracts is not disturbed on the way. Of 323 pairs with random
hyperparameters that are the same, one kind was said to differ: Optax' RAdam in float32, whose ρₜ loses three digits without x64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.problem import Array
from lockstep.harness.adopt.measured import TWINS
from lockstep.harness.conformance.optimizers.running import Path, path, twin
from lockstep.harness.conformance.optimizers.sequences import Course
from lockstep.harness.numerics.budget import BLIND, MULTIPLE, deviation


@dataclass(frozen=True)
class Apart:
    """How far two paths are apart.

    Attributes:
        distance: by parameter, of the paths' shape; 0 where both are the same infinity or NaN, infinite where one is.
        floor: by parameter, (updates + 1,): what the last additions alone explain.
        moved: by parameter, (updates + 1,): how far its furthest element has come so far, on either side.
    """

    distance: Mapping[str, Array]
    floor: Mapping[str, Array]
    moved: Mapping[str, Array]

    def within(self, limits: Mapping[str, Array]) -> bool:
        """Whether no distance is above its limit, (updates + 1,) each."""
        return all(bool((_widest(one) <= limits[name]).all()) for name, one in self.distance.items())

    @property
    def same(self) -> bool:
        """To the bit."""
        return not any(one.any() for one in self.distance.values())

    @property
    def spared(self) -> bool:
        """Whether nothing need be measured: they are the same, or within a floor that hides nothing."""
        return self.same or (self.within(self.floor) and self.sees(self.floor))

    def sees(self, limits: Mapping[str, Array]) -> bool:
        """Whether limits let nothing pass that could be seen: at most BLIND of how far the parameters came."""
        return all(float(limits[name][-1]) <= BLIND * float(one[-1]) for name, one in self.moved.items())


def apart(ours: Path, theirs: Path, dtype: str) -> Apart:
    """Two paths over one course."""
    eps, distance, floor, moved = float(np.finfo(dtype).eps), {}, {}, {}
    for name, left in ours.items():
        one, other = (value.astype(np.float64) for value in (left, theirs[name]))
        with np.errstate(all="ignore"):
            off = np.abs(one - other)
            alike = (one == other) | (np.isnan(one) & np.isnan(other))
            distance[name] = np.where(alike, 0.0, np.where(np.isnan(off), np.inf, off))
            largest = np.maximum(_widest(_finite(one)), _widest(_finite(other)))
            steps = np.maximum(_widest(_finite(one - one[0])), _widest(_finite(other - other[0])))
        floor[name] = np.arange(len(one)) * eps * np.maximum.accumulate(largest)
        moved[name] = np.maximum.accumulate(steps)
    return Apart(distance, floor, moved)


def measured(sides: tuple[OptimizerSide, OptimizerSide], course: Course, eps: float) -> dict[str, Array]:
    """By parameter, (updates + 1,): MULTIPLE spreads of the twins of either side, the largest so far of the whole leaf."""
    limits: dict[str, Array] = {}
    for side in sides:
        plain = path(side, course)
        twins = [twin(side, course, seed, eps) for seed in range(TWINS)]
        for name, value in plain.items():
            with np.errstate(all="ignore"):
                spread = deviation(np.stack([one[name] for one in twins]), value)
            # Where the run itself is not finite there is nothing to disturb.
            widest = np.maximum.accumulate(_widest(np.where(np.isfinite(value), spread, 0.0)))
            limits[name] = np.maximum(limits.get(name, 0.0), MULTIPLE * widest)
    return limits


def _widest(values: Array) -> Array:
    """The largest of each update."""
    widest: Array = values.reshape(len(values), -1).max(axis=1, initial=0.0)
    return widest


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), np.abs(values), 0.0)
