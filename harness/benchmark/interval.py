"""Median and quartiles of repeated times, and an interval for the median that assumes no distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
"""The coverage that an interval should have; fewer than six repetitions cannot give it."""


@dataclass(frozen=True)
class Summary:
    """Median, quartiles and interval of repeated times.

    Attributes:
        median, low_quartile, high_quartile: in the unit of the values.
        low, high: the ends of the interval for the median.
        coverage: how often such an interval holds the median of what the values are drawn from.
    """

    median: float
    low_quartile: float
    high_quartile: float
    low: float
    high: float
    coverage: float

    @property
    def width(self) -> float:
        """The interval's width as a share of the median."""
        return (self.high - self.low) / self.median if self.median else math.inf

    def within(self, width: float) -> bool:
        """Whether the interval has its coverage and is at most so wide."""
        return self.coverage >= LEVEL and self.width <= width


def summarise(values: Sequence[float]) -> Summary:
    """The summary of one value or more."""
    ordered = sorted(values)
    rank, coverage = _rank(len(ordered))
    low_quartile, median, high_quartile = (
        statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    )
    return Summary(median, low_quartile, high_quartile, ordered[rank - 1], ordered[-rank], coverage)


def _rank(count: int) -> tuple[int, float]:
    """The largest r for which the r-th smallest and the r-th largest value have LEVEL, else 1; and the coverage.

    The median lies below the r-th smallest if fewer than r of the values fall below it, and so with the largest:
    2 P(Binomial(count, 1/2) < r) in all.
    """
    widest, outside = (1, 0.0), 0.0
    for rank in range(1, (count + 1) // 2 + 1):
        outside += math.comb(count, rank - 1) / 2 ** (count - 1)
        if rank == 1 or 1 - outside >= LEVEL:
            widest = rank, max(0.0, 1 - outside)
    return widest
