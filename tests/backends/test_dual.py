"""Dual numbers against calculus, over exact rationals, so that equality is equality."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.backends.numpy_vjp.dual import Dual, tangents, to_dual

rationals = st.fractions(min_value=-5, max_value=5, max_denominator=9)


@given(rationals, rationals.filter(bool))
def test_every_operator_has_its_derivative(a, b):
    """d/dε of each operation in the direction (1, 2), by the rules of calculus."""
    x, y = Dual(a, Fraction(1)), Dual(b, Fraction(2))
    expected = {
        "x + y": (a + b, 3),
        "x - y": (a - b, -1),
        "3 - x": (3 - a, -1),
        "x * y": (a * b, b + 2 * a),
        "x / y": (a / b, 1 / b - 2 * a / b**2),
        "1 / y": (1 / b, -2 / b**2),
        "x ** 2": (a**2, 2 * a),
        "x ** 0": (1, 0),
        "-x": (-a, -1),
    }
    for expression, (value, tangent) in expected.items():
        found = eval(expression, {"x": x, "y": y})
        assert (found.value, found.tangent) == (value, tangent), expression


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "sqrt", "tanh", "erfc", "__abs__"])
def test_every_function_has_its_derivative(name):
    """Against a central difference of the same function at ±h."""
    at, h = 0.7, 1e-6
    up, down = (getattr(Dual(at + step), name)().value for step in (h, -h))
    found = getattr(Dual(at, 2.0), name)()
    assert found.value == getattr(Dual(at), name)().value
    assert found.tangent == pytest.approx(2 * (up - down) / (2 * h), rel=1e-8)


def test_duals_are_ordered_by_their_values_and_abs_is_flat_at_zero():
    one, other = Dual(1.0, 5.0), Dual(2.0, -5.0)
    assert one < other
    assert one <= 1.0
    assert other > 1
    assert other >= one
    assert one == 1.0
    assert one != other
    assert abs(Dual(0.0, 3.0)).tangent == 0


def test_arrays_of_duals_take_their_tangents_back_out():
    duals = to_dual(np.arange(4.0).reshape(2, 2), 3.0)
    np.testing.assert_array_equal(
        tangents(duals @ duals, float), 3.0 * np.array([[3, 5], [7, 9]]) * 1.0 + 0.0
    )


def test_plain_numbers_among_duals_have_no_tangent():
    assert tangents(np.array([Dual(1.0, 2.0), 5.0], dtype=object), float) == pytest.approx([2.0, 0.0])


def test_repr_shows_both_parts():
    assert repr(Dual(1.0, 2.0)) == "Dual(1.0, 2.0)"
