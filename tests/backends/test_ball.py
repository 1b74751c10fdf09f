"""Balls: they hold the true value, never guess a comparison, stay balls in arrays, and are rounded once."""

import math
import pickle
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flint", reason="the extra `exact` is not installed")

from flint import arb

from lockstep.backends.exact.array import BallArray, lift
from lockstep.backends.exact.ball import Ball, Undecided, working
from lockstep.backends.exact.precision import MARGIN, TARGET, accuracy, predicted, scales
from lockstep.backends.exact.rounding import rounded
from lockstep.backends.numpy_vjp.special import is_object, one
from tests.backends.exactly import holds, middle

FINITE = st.floats(-1e6, 1e6, allow_subnormal=True)
THIRD = Ball(arb(1) / 3)


@pytest.fixture(autouse=True)
def precision():
    with working(100):
        yield


@settings(max_examples=50)
@given(FINITE, FINITE, st.integers(-9, 9))
def test_operations_hold_the_exact_value(a, b, n):
    x, y, exact_x, exact_y = Ball.of(a) / 3, Ball.of(b), Fraction(a) / 3, Fraction(b)
    assert holds(x + y, exact_x + exact_y)
    assert holds(x - b, exact_x - exact_y)
    assert holds(b - x, exact_y - exact_x)
    assert holds(np.float64(b) * x, exact_y * exact_x)
    assert holds(n + x * n, n + exact_x * n)
    assert holds(abs(-x), abs(exact_x))
    assert holds(x**3, exact_x**3)
    if a:
        assert holds(y / x, exact_y / exact_x)
        assert holds(n / x, n / exact_x)


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "sqrt", "tanh", "cos", "erfc", "arctan"])
def test_functions_hold_the_value_in_fifty_digits(name):
    with mpmath.workdps(50):
        truth = getattr(mpmath, {"arctan": "atan"}.get(name, name))(mpmath.mpf(0.7))
        # The reference itself is off by 1e-50, the ball by about 2^-100 = 1e-30.
        assert (
            abs(
                mpmath.mpf(str(middle(getattr(Ball.of(0.7), name)()).numerator))
                / mpmath.mpf(str(middle(getattr(Ball.of(0.7), name)()).denominator))
                - truth
            )
            < mpmath.mpf(10) ** -28
        )


def test_what_overlaps_is_not_decided():
    again = Ball(arb(1) / 3)
    for compare in (
        lambda: again < THIRD,
        lambda: again <= THIRD,
        lambda: again > THIRD,
        lambda: again >= THIRD,
        lambda: again == THIRD,
        lambda: again != THIRD,
        lambda: bool(again - THIRD),
        lambda: (again - THIRD).sign(),
        lambda: int(3 * THIRD),
        lambda: max(again, THIRD),
        lambda: lift([1.0, 1.0]) / 3 > lift([0.0, 1.0]) / 3,
        lambda: np.sign(lift([1.0]) / 3 - THIRD),
        lambda: np.argmax(lift([1.0, 1.0]) / 3),
        lambda: np.where(lift([1.0]) / 3 > 1 / (3 * Ball.of(1)), 1, 0),
    ):
        with pytest.raises(Undecided, match="not decided"):
            compare()


def test_the_error_survives_the_way_between_processes():
    with pytest.raises(Undecided) as caught:
        bool(THIRD - Ball(arb(1) / 3))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_apart_or_exactly_equal_is_decided():
    assert THIRD < 0.5 < 1 - THIRD
    assert THIRD > 0
    assert THIRD >= -1
    assert THIRD != 0
    assert Ball.of(0.5) == 0.5
    assert Ball.of(0.5) <= np.float32(0.5)
    assert Ball.of(-math.inf) < THIRD
    assert not Ball.of(0)
    assert float(Ball.of(0.0).sign()) == 0
    assert int(Ball.of(3.0)) == 3


def test_the_larger_of_two_needs_no_decision():
    tie = THIRD.maximum(Ball(arb(1) / 3))
    assert holds(tie, Fraction(1, 3))
    assert holds(np.max(lift([1.0, 1.0]) / 3), Fraction(1, 3))
    assert holds(np.clip(lift([1.0]) / 3, THIRD, 1)[0], Fraction(1, 3))
    assert holds(np.abs(lift([1.0]) / 3 - THIRD)[0], Fraction(0))


def test_an_array_of_balls_stays_one():
    x = lift(np.array([[1.0, -2.0], [3.0, 4.0]]))
    u = x / 3
    for found in (
        np.maximum(u, 0),
        np.minimum(0.0, u),
        np.sign(u),
        np.zeros_like(u),
        np.ones_like(u),
        np.where(u > 0, 1, u),
        np.pad(u, 1, constant_values=-np.inf),
        np.concatenate([u, np.ones((2, 2))]),
        np.stack([u, u]),
        2 * u,
        u * np.array([True, False]),
        np.mean(u, axis=0),
        np.dot(u, np.ones((2, 3))),
        np.matmul(u[None], u[None]),
        np.tensordot(u, u, axes=((0,), (0,))),
        u.T.reshape(-1),
        np.split(u, 2)[0],
    ):
        assert isinstance(found, BallArray)
        assert all(type(one) is Ball for one in found.flat)
    assert not isinstance(u > 0, BallArray)
    assert u.astype(float).dtype == np.float64
    np.testing.assert_array_equal(x.astype(np.intp), [[1, -2], [3, 4]])


def test_a_lone_ball_is_an_object_and_its_one_a_ball():
    """A loss is no array. Taken for a float its cotangent would be NumPy's int 1, and 1/n a rounded float."""
    assert is_object(THIRD)
    assert is_object(lift([1.0]))
    assert not is_object(np.float64(1))
    assert not is_object(1.0)
    assert type(one(THIRD)) is Ball
    assert isinstance(one(lift([1.0])), BallArray)
    assert holds(one(THIRD) / 3, Fraction(1, 3))


def test_products_are_those_of_the_exact_matrices():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5))
    exact = np.frompyfunc(Fraction, 1, 1)
    for found, truth in (
        (np.dot(lift(a), lift(b)), exact(a) @ exact(b)),
        (np.matmul(lift(a), lift(np.stack([b, b]))), exact(a) @ exact(b)),
        (
            np.tensordot(lift(a), lift(a), axes=((0, 1), (0, 1))),
            np.tensordot(exact(a), exact(a), ((0, 1), (0, 1))),
        ),
        (np.tensordot(lift(a), lift(b), axes=((2,), (0,))), exact(a) @ exact(b)),
        (np.sum(lift(a), axis=1), exact(a).sum(axis=1)),
    ):
        assert found.shape == truth.shape
        assert all(map(holds, found.flat, truth.flat))


def test_repeated_indices_add_up():
    table = np.zeros_like(lift(np.zeros((3, 1))))
    np.add.at(table, np.array([2, 0, 2]), lift(np.array([[1.0], [2.0], [4.0]])))
    np.testing.assert_array_equal(table.astype(float), [[2], [0], [5]])


def test_no_number_is_taken_for_one():
    for wrong in ("1", None, 1j):
        with pytest.raises(TypeError):
            Ball.of(wrong)


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        # To double first would leave a tie, which goes to the even neighbour below.
        (1 + Fraction(1, 2**24) + Fraction(1, 2**60), "float32", 1 + 2**-23),
        (-1 - Fraction(1, 2**24) - Fraction(1, 2**90), "float32", -1 - 2**-23),
        (1 + Fraction(1, 2**24), "float32", 1.0),
        (1 + Fraction(1, 2**53) + Fraction(1, 2**90), "float64", 1 + 2**-52),
        (1 + Fraction(1, 2**53), "float64", 1.0),
        (Fraction(3, 2**1075), "float64", 2 * 2.0**-1074),
        (Fraction(3, 2**150), "float32", 2 * 2.0**-149),
        (Fraction(2**1030), "float64", math.inf),
        (-Fraction(2**200), "float32", -math.inf),
        (Fraction(0), "float32", 0.0),
    ],
)
def test_rounding_is_to_nearest_and_once(value, dtype, wanted):
    ball = Ball(arb(value.numerator) / arb(value.denominator))
    found = rounded(ball, dtype)
    assert found.dtype == dtype
    assert found == wanted


@settings(max_examples=50)
@given(st.fractions(-100, 100))
def test_rounding_agrees_with_that_of_fractions(value):
    with working(400):
        assert rounded(Ball.of(value.numerator) / value.denominator, "float64") == float(value)


def test_floats_survive_the_way_there_and_back():
    values = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)
    assert rounded(lift(values), "float32").tobytes() == values.tobytes()


def test_accuracy_is_of_the_largest_magnitude_and_never_too_large():
    balls = lift([4.0, 0.0]) / 3 + lift([0.0, 1.0]) / 3
    with working(100):
        found = accuracy(balls.flat, scales({"w": balls})["w"])
    assert 93 <= found <= 101
    assert accuracy([Ball.of(1.0)], arb(1)) == math.inf
    assert accuracy([Ball.of(1.0) / 0], arb(1)) == -math.inf


def test_a_leaf_that_is_zero_in_truth_is_held_against_the_others():
    zero = lift([1.0]) / 3 - lift([1.0]) / 3
    found = scales({"bias": zero, "w": lift([2.0, -8.0])})
    assert found["bias"] == found["w"] == 8


def test_precision_is_foretold_from_the_widening():
    steady = [3.0 * step for step in range(1, 41)]
    wanted = TARGET + 3 * 1000 + MARGIN
    assert wanted <= predicted(steady, 1000) <= wanted * 1.15
    assert predicted(steady, 40) == TARGET + 120 + MARGIN
    transient = [50.0] * 20 + [50.0 + step for step in range(20)]
    assert predicted(transient, 100) < 69 + 60 * 1.2 + TARGET + MARGIN + 1
    assert predicted([], 10) > 128
