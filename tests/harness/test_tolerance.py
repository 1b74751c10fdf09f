"""Tolerances: what is refused, what the scale is, and where the number comes from."""

import numpy as np
import pytest

from lockstep.backends.problem import DTYPES
from lockstep.harness.core.tolerance import FIXED, Tolerance, ToleranceError, choose


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-9])
def test_what_is_no_tolerance_is_refused(name, value):
    with pytest.raises(ToleranceError, match=f"{name} is not a tolerance"):
        choose("float64", **{name: value})


def test_a_relative_tolerance_of_one_is_refused():
    with pytest.raises(ToleranceError, match="zero would pass"):
        choose("float64", rtol=1.0)


def test_every_dtype_has_a_fixed_tolerance_with_its_reason():
    assert set(FIXED) == set(DTYPES)
    for dtype, one in FIXED.items():
        assert one.rtol == pytest.approx(45 * np.finfo(dtype).eps, rel=0.02)
        assert choose(dtype) is one
        assert dtype in one.source


def test_the_users_tolerance_is_element_by_element():
    one = choose("float32", rtol=1e-3)
    assert (one.rtol, one.atol, one.scaled) == (1e-3, 0.0, False)
    assert choose("float32", atol=0.0).rtol == 0.0
    np.testing.assert_array_equal(one.scale(np.array([4.0, -2.0]), is_loss=True), [4.0, 2.0])


def test_a_loss_is_scaled_by_the_first_loss_and_a_parameter_by_its_leaf():
    one = Tolerance(1e-3, 0.5, True, "test")
    np.testing.assert_array_equal(one.scale(np.array([4.0, -2.0, 9.0]), is_loss=True), [4.0, 4.0, 9.0])
    scale = one.scale(np.array([[1.0, -8.0]]), is_loss=False)
    np.testing.assert_array_equal(scale, [[8.0, 8.0]])
    np.testing.assert_array_equal(one.limit("0.linear/w", scale), 0.5 + 1e-3 * scale)
