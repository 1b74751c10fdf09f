"""Signals that identify parameters by function: their gradients, when both sides hold the same numbers as far as known.

The two sides then compute the same function (`lockstep.harness.matching.probes`), and the gradients of counterparts are the same
numbers in two layouts. Where the step of a side cannot be taken apart, what the first update changes stands for the gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.mapping.link import Link
from lockstep.harness.matching.probes import Probe, probe_parameters
from lockstep.harness.matching.slices import ParameterSlice, pair_of
from lockstep.harness.matching.stepped import Stepped

TRIALS = 2
"""Probes with other random numbers that are evaluated together."""


@dataclass(frozen=True)
class Signals:
    """The gradients of both sides under TRIALS probes, (trials, ...) by name; the right side's are scaled to the left's loss.

    Attributes:
        left, right: gradients.
        left_buffers, right_buffers: by how much the buffers move.
        losses: (trials, 2).
    """

    left: dict[str, Array]
    right: dict[str, Array]
    left_buffers: dict[str, Array]
    right_buffers: dict[str, Array]
    losses: Array

    @property
    def loss_distance(self) -> float:
        """The distance of the losses' ratio from one, or from another number that is the same under every probe."""
        ratios = self.losses[:, 0] / self.losses[:, 1]
        if not np.isfinite(ratios).all():
            return np.inf
        return float(min(np.abs(ratios - 1).max(), np.abs(ratios / ratios[0] - 1).max()))

    def pair(self, left: ParameterSlice, right: ParameterSlice) -> tuple[Array, Array]:
        """Both slices' gradients, (trials, ...)."""
        return _of(left, self.left), _of(right, self.right)

    def distance(self, link: Link) -> float | None:
        """The relative distance of the gradients through a link; None where it is not known: both are negligible, or one is no gradient."""
        if not self.shown(*pair_of(link)):
            return None
        ours, theirs = self.pair(*pair_of(link))
        converted = np.stack([link.to_left(one, ours.shape[1:]) for one in theirs])
        return _relative_distance(ours, converted, self.least)

    def likeness(self, link: Link) -> float:
        """The cosine between the gradients through a link, of either sign; 0 where it is not known."""
        if self.distance(link) is None:
            return 0.0
        ours, theirs = self.pair(*pair_of(link))
        converted = np.stack([link.to_left(one, ours.shape[1:]) for one in theirs])
        size = float(np.linalg.norm(ours) * np.linalg.norm(converted))
        return abs(float(np.vdot(ours, converted))) / size if size else 0.0

    def invariant_distance(self, left: ParameterSlice, right: ParameterSlice) -> float | None:
        """The same regardless of the layout: of the sorted numbers. Of one pair it is evaluated once."""
        if (left, right) not in self._coarse:
            self._coarse[left, right] = self._of_sorted(left, right)
        return self._coarse[left, right]

    def _of_sorted(self, left: ParameterSlice, right: ParameterSlice) -> float | None:
        if not self.shown(left, right):
            return None
        ours, theirs = self.pair(left, right)
        if ours.size != theirs.size:
            return None
        return _relative_distance(self._in_order(left, 0), self._in_order(right, 1), self.least)

    def uninformative(self, array_slice: ParameterSlice, side: int) -> bool:
        """Whether the gradient of a slice of the left (0) or right (1) side is negligible: a probe shows nothing of it."""
        gradients = (self.left, self.right)[side]
        return bool(np.abs(_of(array_slice, gradients)).max(initial=0.0) <= self.least)

    def shown(self, left: ParameterSlice, right: ParameterSlice) -> bool:
        """Whether both sides have a gradient of these: neither is frozen."""
        return left.name in self.left and right.name in self.right

    @cached_property
    def least(self) -> float:
        """A gradient below this is negligible: rounding, next to the largest."""
        return 1e-6 * max((float(np.abs(one).max(initial=0.0)) for one in self.left.values()), default=0.0)

    @cached_property
    def _coarse(self) -> dict[tuple[ParameterSlice, ParameterSlice], float | None]:
        return {}

    @cached_property
    def _sorted(self) -> dict[tuple[ParameterSlice, int], Array]:
        return {}

    def _in_order(self, array_slice: ParameterSlice, side: int) -> Array:
        """A slice's numbers from the least to the largest, sorted once; (trials, numbers)."""
        key = array_slice, side
        if key not in self._sorted:
            values = _of(array_slice, (self.left, self.right)[side])
            self._sorted[key] = np.sort(values.reshape(len(values), -1), axis=1)
        return self._sorted[key]


def _of(array_slice: ParameterSlice, arrays: Mapping[str, Array]) -> Array:
    """A slice of stacked arrays, (trials, ...)."""
    values: Array = arrays[array_slice.name][(slice(None), *(slice(*one) for one in array_slice.slices))]
    return values


def signals(
    sides: tuple[Stepped, Stepped],
    known: Sequence[Sequence[Link]],
    still: tuple[Collection[str], Collection[str]],
    seed: int,
    probe: Probe,
) -> Signals:
    """Both sides' gradients.

    Args:
        sides: the two sides.
        known: the possible layouts of each pair.
        still: buffers of both sides that are set as parameters are.
        seed: of the random numbers.
        probe: the values of everything else.
    """
    undivided = sides[0].undivided
    observed: list[tuple[dict[str, Array], ...]] = []
    losses = []
    for trial in range(TRIALS):
        starts = sides[0].start, sides[1].start
        probed = probe_parameters(starts, known, still, [seed, trial], probe)
        (loss, ours, moved), (other, theirs, their_moved) = (
            side.step(values) for side, values in zip(sides, probed, strict=True)
        )
        # A loss that is summed where the other is averaged is a finding for `verify`, not for the mapping.
        ratio = _ratio(_size(ours), _size(theirs)) if undivided else _ratio(loss, other)
        observed.append((ours, {name: ratio * one for name, one in theirs.items()}, moved, their_moved))
        losses.append((loss, other))
    gradients, theirs, buffers, other_buffers = (
        _stacked([one[part] for one in observed]) for part in range(4)
    )
    return Signals(gradients, theirs, buffers, other_buffers, np.array(losses))


def _stacked(trials: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([one[name] for one in trials]) for name in trials[0]}


def _ratio(left: float, right: float) -> float:
    """The number that scales the right side's gradients; one where the two are near."""
    return left / right if right and abs(left / right - 1) > 0.05 else 1.0


def _size(updates: Mapping[str, Array]) -> float:
    """The norm of all of them: another learning rate is a finding for `verify`, too."""
    return float(np.sqrt(sum(np.sum(np.square(one, dtype=np.float64)) for one in updates.values())))


def _relative_distance(left: Array, right: Array, least: float) -> float | None:
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return None
    size = max(float(np.abs(left).max(initial=0.0)), float(np.abs(right).max(initial=0.0)))
    return None if size <= least else float(np.abs(left - right).max(initial=0.0)) / size
