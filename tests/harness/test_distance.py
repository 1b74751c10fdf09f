"""Distances in ULPs and ratios, against NumPy's own nextafter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import from_dtype

from lockstep.harness.core.distance import place, ratio, ulps_between

DTYPES = [np.float32, np.float64]


@given(st.data(), st.sampled_from(DTYPES), st.integers(0, 50))
def test_ulps_count_the_steps_of_nextafter(data, dtype, steps):
    start = data.draw(from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False))
    value = start = dtype(start)
    with np.errstate(over="ignore"):
        for _ in range(steps):
            value = np.nextafter(value, dtype(np.inf))
    if np.isfinite(value):
        assert ulps_between(start, value) == ulps_between(value, start) == steps


@pytest.mark.parametrize("dtype", DTYPES)
def test_ulps_cross_zero_and_zeros_are_one_number(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    assert ulps_between(dtype(-0.0), dtype(0.0)) == 0
    assert ulps_between(-tiny, tiny) == 2
    largest = np.finfo(dtype).max
    assert ulps_between(-largest, largest) > 2**31


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_ulps_to_what_is_not_finite(value):
    assert ulps_between(np.float64(value), np.float64(1)) is None


def test_ratio_has_no_warnings_at_zero():
    found = ratio(np.array([0.0, 1.0, 1.0, 6.0]), np.array([0.0, 0.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found, [0.0, np.inf, 0.5, 2.0])


def test_a_place_has_all_figures():
    left, right = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0 + 2**-50]])
    found = place((0, 1), left, right, np.array([[4.0, 4.0]]))
    assert (found.index, found.left, found.right) == ((0, 1), 2.0, 2.0 + 2**-50)
    assert (found.absolute, found.relative, found.scaled, found.ulps) == (2**-50, 2**-51, 2**-52, 2)
