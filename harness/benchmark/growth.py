"""How a time grows: the exponent p of time ~ size^p, fitted over the medians of a sweep."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """A fitted exponent.

    Attributes:
        exponent: by least squares in logarithms.
        least, most: of the exponents between neighbouring sizes; far from each other where no single power describes the growth.
    """

    exponent: float
    least: float
    most: float


def fitted(points: Sequence[tuple[float, float]]) -> Growth | None:
    """The growth through (size, seconds); None with fewer than two sizes."""
    logs = sorted((math.log(size), math.log(seconds)) for size, seconds in points)
    local = [
        (right[1] - left[1]) / (right[0] - left[0])
        for left, right in itertools.pairwise(logs)
        if right[0] > left[0]
    ]
    if not local:
        return None
    middle = [sum(one[axis] for one in logs) / len(logs) for axis in (0, 1)]
    along = sum((x - middle[0]) * (y - middle[1]) for x, y in logs)
    return Growth(along / sum((x - middle[0]) ** 2 for x, _ in logs), min(local), max(local))
