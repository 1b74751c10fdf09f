"""Whether two samples are of one distribution, whichever it is: rank tests with bounds that hold for every number of draws.

Kolmogorov and Smirnov's D, of the numbers and of their distances from the centre: for n and n independent draws of one distribution
P(D >= d) <= e exp(-n d^2) (Wei and Dudley 2012, theorem 1). And bounds: that the k largest of 2n draws are all of one
side has at most the probability 2^-k (Rosenbaum 1954). Neither asks which distribution it is.

Numbers of one build may hang together. Where the means of builds vary F times as much as the means of independent numbers would, n
draws are counted as n / F.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lockstep.backends.problem import Array

TESTS = 6
"""How many are made of each parameter: D of the numbers and of their distances, and both sides' largest and smallest numbers."""

MISSED = 1e-3
"""The probability with which a difference may be missed that is said to be found."""

_QUANTILES = 512
_FACTORS = np.geomspace(1.001, 1000.0, 96)


@dataclass(frozen=True)
class TwoSample:
    """Both sides' draws of one parameter.

    Attributes:
        left, right: (builds, numbers) each, of one shape.
        level: a test below this probability says that they differ.
    """

    left: Array
    right: Array
    level: float

    @cached_property
    def draws(self) -> float:
        """How many independent draws a side's numbers count as."""
        return self.left.size / self._dependence

    @property
    def p(self) -> float:
        """An upper bound of the probability that one distribution gives the most extreme of the tests."""
        return min(1.0, *(self._p_of_distance(one) for one in self._distances), self._p_of_bounds)

    @property
    def differ(self) -> bool:
        """Whether one distribution explains the two at no sensible level."""
        return self.p < self.level

    @cached_property
    def caught(self) -> float:
        """The least factor between the two scales that would have been found, but with probability MISSED; infinite if none."""
        needed = math.log2(1 / self.level)
        # Of a Poisson number of draws beyond the other side's largest, as many as that but with probability MISSED.
        beyond = (1.55 + math.sqrt(2.4 + needed)) ** 2
        limit = math.sqrt(self._log(self.level) / self.draws) + math.sqrt(self._log(MISSED) / self.draws)
        ours = np.sort(np.abs(self.left - self._centre).ravel())
        points = ours[np.linspace(0, ours.size - 1, _QUANTILES).astype(int)]
        for factor in _FACTORS:
            # The points themselves, and those that they become.
            scaled = np.searchsorted(ours, points / factor, side="right") / ours.size
            distance = float((np.searchsorted(ours, points, side="right") / ours.size - scaled).max())
            outside = ours.size - np.searchsorted(ours, ours[-1] / factor, side="right")
            # A bound is exceeded above and below; each is a test of its own.
            if distance >= limit or outside / 2 / self._dependence >= beyond:
                return float(factor)
        return math.inf

    @cached_property
    def _centre(self) -> float:
        """The median of both; 0 where that is as near as chance brings it. The same whichever numbers are whose."""
        both = np.concatenate([self.left.ravel(), self.right.ravel()])
        median = float(np.median(both))
        return 0.0 if abs(median) <= 5 * float(both.std()) / math.sqrt(2 * self.draws) else median

    @cached_property
    def _dependence(self) -> float:
        """F: how much more the means of builds vary than those of independent numbers would; at least 1."""
        return max(1.0, _spread_of_means(self.left, self.right), self._spread_of_sizes)

    @property
    def _spread_of_sizes(self) -> float:
        both = np.concatenate([self.left.ravel(), self.right.ravel()])
        median = float(np.median(both))
        return _spread_of_means(np.abs(self.left - median), np.abs(self.right - median))

    @cached_property
    def _distances(self) -> tuple[float, float]:
        centred = (np.abs(one - self._centre) for one in (self.left, self.right))
        return distance(self.left, self.right), distance(*centred)

    def _p_of_distance(self, d: float) -> float:
        return math.exp(min(0.0, 1 - self.draws * d * d))

    @property
    def _p_of_bounds(self) -> float:
        left, right = self.left, self.right
        beyond = max(
            int((left > right.max()).sum()),
            int((right > left.max()).sum()),
            int((left < right.min()).sum()),
            int((right < left.min()).sum()),
        )
        return float(2.0 ** -(beyond / self._dependence))

    def _log(self, probability: float) -> float:
        """The n d² at which the bound of D is the probability."""
        return 1 - math.log(probability)


def distance(left: Array, right: Array) -> float:
    """Kolmogorov and Smirnov's D: the largest distance of the two empirical distributions."""
    ours, theirs = np.sort(left, axis=None), np.sort(right, axis=None)
    points = np.concatenate([ours, theirs])
    below = [np.searchsorted(one, points, side="right") / one.size for one in (ours, theirs)]
    return float(np.abs(below[0] - below[1]).max())


def _spread_of_means(left: Array, right: Array) -> float:
    """The variance of the builds' means over that of means of independent numbers, of both sides."""
    numbers = left.shape[1]
    between = sum(float(one.mean(axis=1).var(ddof=1)) for one in (left, right))
    within = sum(float(one.var()) for one in (left, right))
    return numbers * between / within if within else float(numbers)
