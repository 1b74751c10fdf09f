"""Ratios of the suspect's arrays to the witness', read off one step. Training decides whether they are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations.evidence import (
    Evidence,
)

NOISE = 8.0
"""Eps of the largest magnitude: two arrays at no larger distance are the same here."""

CLOSE = 1e-4
"""Arrays at this share of the largest distance are the same, too: one mistake, and rounding around it."""

WHOLE = 1e-4
"""How near a ratio is to a whole number that it is taken for."""


@dataclass(frozen=True)
class Pair:
    """One array on both sides, in double.

    Attributes:
        left, right: the witness' and the suspect's.
        noise: the distance that rounding explains.
    """

    left: Array
    right: Array
    noise: float

    @property
    def scale(self) -> float:
        """The largest magnitude on either side."""
        return max(largest(self.left), largest(self.right))

    @property
    def distance(self) -> float:
        """The largest difference of two elements."""
        return largest(self.right - self.left)

    def ratio(self, close: float) -> float | None:
        """The number by which one is a multiple of the other, or None."""
        return common_ratio([self], close)


@dataclass(frozen=True)
class Compared:
    """All arrays of one kind that both sides have in one shape and finite."""

    pairs: Mapping[str, Pair]
    eps: float

    @cached_property
    def close(self) -> float:
        """The relative distance up to which two arrays are the same."""
        distances = [one.distance / one.scale for one in self.pairs.values() if one.distance > one.noise]
        return max(NOISE * self.eps, CLOSE * max(distances, default=0.0))

    @cached_property
    def differing(self) -> dict[str, Pair]:
        """The pairs that are not the same."""
        return {
            name: one
            for name, one in self.pairs.items()
            if one.distance > max(one.noise, self.close * one.scale)
        }

    @cached_property
    def ratios(self) -> dict[str, float | None]:
        """The factor of each array that differs; None where it is no multiple."""
        return {name: one.ratio(self.close) for name, one in self.differing.items()}

    @cached_property
    def common(self) -> float | None:
        """The common factor of all arrays that are not zero; None if there is none, or nothing differs."""
        moved = [one for one in self.pairs.values() if one.scale > one.noise]
        return common_ratio(moved, self.close) if self.differing else None

    def same(self, left: Array, right: Array) -> bool:
        """Whether two arrays of this kind are the same."""
        return Pair(left, right, 0.0).distance <= self.close * max(largest(left), largest(right))


def compared(evidence: Evidence, kind: str) -> Compared:
    """The observed stages of one kind; nothing where none were observed."""
    left, right = evidence.stages(kind)
    eps = float(np.finfo(evidence.spec.dtype).eps)
    pairs = {
        name: (value.astype(np.float64), right[name].astype(np.float64))
        for name, value in left.items()
        if name in right and value.shape == right[name].shape and np.isfinite([value, right[name]]).all()
    }
    noise = _noise(evidence, kind, pairs)
    return Compared({name: Pair(*pair, NOISE * eps * noise[name]) for name, pair in pairs.items()}, eps)


def _noise(evidence: Evidence, kind: str, pairs: Mapping[str, tuple[Array, Array]]) -> dict[str, float]:
    """The magnitude whose eps each array is rounded by: for an update the parameter's, for all others the largest of the kind."""
    if kind == "update" and evidence.observed is not None:
        before = arrays_of(evidence.observed.before)
        return {name: largest(before[name]) if name in before else 0.0 for name in pairs}
    whole = max((largest(one) for one, _ in pairs.values()), default=0.0)
    return dict.fromkeys(pairs, whole)


def common_ratio(pairs: list[Pair], close: float) -> float | None:
    """The number by which the right of every pair is a multiple of its left, by least squares; None if there is none."""
    products = squares = 0.0
    for one in pairs:
        weight = 1 / max(one.noise, np.finfo(np.float64).eps * one.scale, np.finfo(np.float64).tiny) ** 2
        products += weight * float(np.sum(one.left * one.right))
        squares += weight * float(np.sum(one.left * one.left))
    if not squares or not np.isfinite(products / squares):
        return None
    ratio = products / squares
    if all(largest(ratio * one.left - one.right) <= max(one.noise, close * one.scale) for one in pairs):
        return ratio
    return None


def arrays_of(snapshot: Snapshot) -> Arrays:
    """Parameters and buffers: a parameter of one side may be frozen, and so a buffer, on the other."""
    return {**snapshot.buffers, **snapshot.parameters}


def largest(value: Array) -> float:
    """The largest magnitude; 0 of nothing."""
    return float(np.abs(value).max(initial=0.0))


def in_words(ratio: float) -> str:
    """A ratio, with as many digits as part it from 1."""
    distance = abs(ratio - 1)
    digits = 6 if distance >= 1e-3 or not distance else 3 + int(np.ceil(-np.log10(distance)))
    return f"{ratio:.{digits}g}"
