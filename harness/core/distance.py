"""The distance of two numbers: absolute, relative, scaled, and in units in the last place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array


@dataclass(frozen=True)
class Place:
    """One element of a comparison.

    Attributes:
        index: where it is; for losses, the epoch.
        left, right: both values.
        absolute: |left − right|.
        relative: |left − right| / |left|; infinite where left is zero and right is not.
        scaled: |left − right| / scale, with the tolerance's scale.
        ulps: how many representable numbers of the dtype lie between; None unless both are finite.
    """

    index: tuple[int, ...]
    left: float
    right: float
    absolute: float
    relative: float
    scaled: float
    ulps: int | None


def ulps_between(left: np.floating, right: np.floating) -> int | None:
    """Steps from `left` to `right` through the floating-point numbers of their (common) dtype.

    Zero of either sign is one number. None if either is not finite.
    """
    if not (np.isfinite(left) and np.isfinite(right)):
        return None
    return abs(_rank(left) - _rank(right))


def rank(values: Array) -> Array:
    """`_rank` of many numbers, as float64, which is exact to 2^53 only: to sort by distance. The rank of a number that is not finite means nothing."""
    magnitude = np.abs(values).view(f"u{values.dtype.itemsize}").astype(np.float64)
    return np.where(values < 0, -magnitude, magnitude)


def _rank(value: np.floating) -> int:
    """Position of a number among those of its dtype; the bits of IEEE 754 numbers are ordered by magnitude."""
    magnitude = int(np.abs(value).view(f"u{value.dtype.itemsize}"))
    return -magnitude if value < 0 else magnitude


def ratio(distance: Array, scale: Array) -> Array:
    """`distance / scale`, where 0 / 0 is 0, and an infinite distance or one over no scale is infinite."""
    out = np.where(distance == 0, 0.0, np.where(np.isnan(distance), np.nan, np.inf))
    with np.errstate(over="ignore"):
        return np.divide(distance, scale, out=out, where=(scale > 0) & np.isfinite(distance))


def place(index: tuple[int, ...], left: Array, right: Array, scale: Array) -> Place:
    """The figures of one element of two arrays of one shape and dtype."""
    a, b = left[index], right[index]
    with np.errstate(invalid="ignore", over="ignore"):
        absolute = np.abs(np.float64(a) - np.float64(b))
    return Place(
        index=index,
        left=float(a),
        right=float(b),
        absolute=float(absolute),
        relative=float(ratio(absolute, np.abs(np.float64(a)))),
        scaled=float(ratio(absolute, scale[index])),
        ulps=ulps_between(a, b),
    )


def is_whole(array: Array) -> bool:
    """Whether an array holds whole numbers or truth values: between two of them there is no rounding."""
    return array.dtype.kind in "iub"
