"""Intervals for the median: their coverage is what they say, whatever the distribution."""

import math

import numpy as np
import pytest

from lockstep.harness.benchmark.interval import LEVEL, summarise


@pytest.mark.parametrize(
    ("count", "low", "high", "coverage"),
    [(1, 1, 1, 0.0), (2, 1, 2, 0.5), (5, 1, 5, 0.9375), (6, 1, 6, 0.96875), (9, 2, 8, 0.9609375)],
)
def test_ranks_are_those_of_the_sign_test(count, low, high, coverage):
    found = summarise(range(1, count + 1))
    assert (found.low, found.high, found.coverage) == (low, high, pytest.approx(coverage))


@pytest.mark.parametrize("count", [4, 7, 12, 25])
def test_the_coverage_is_reached_and_not_exceeded(count):
    """Of a skewed distribution, whose mean is far from its median."""
    rng = np.random.default_rng(3)
    trials = 4000
    held = sum(
        found.low <= 1.0 <= found.high
        for found in (summarise(list(np.exp(rng.standard_normal(count)))) for _ in range(trials))
    )
    coverage = summarise(range(count)).coverage
    assert abs(held / trials - coverage) < 4 * math.sqrt(coverage * (1 - coverage) / trials)


def test_few_values_are_never_precise_and_equal_ones_are():
    assert not summarise([1.0] * 5).within(0.5)
    assert summarise([1.0] * 5).coverage < LEVEL
    assert summarise([1.0] * 6).within(0.01)
    assert not summarise([1, 1, 1, 1, 1, 1.2]).within(0.1)
    assert summarise([1, 1, 1, 1, 1, 1, 1, 1, 1.2]).within(0.1)


def test_quartiles():
    found = summarise([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low_quartile, found.median, found.high_quartile) == (2, 3, 4)
