"""Figures of a comparison: which elements it names, in which order, and what it says where it could catch nothing."""

import dataclasses

import numpy as np
import pytest

from lockstep import Verdict
from lockstep.harness.core.compare import Comparison, Run, compare_arrays, without_vacuous
from lockstep.harness.core.distance import place, rank, ratio, ulps_between
from lockstep.harness.core.tolerance import Tolerance, scaled
from lockstep.harness.diagnose.divergence import _worst
from lockstep.harness.numerics.budget import Budget

FIXED = Tolerance(1e-14, 0.0, True, "test")


def compared(left, right, quantity="loss", tolerance=FIXED):
    unit = "epoch" if quantity == "loss" else "index"
    blank = Comparison("p", "float64", "a", "b", quantity, Verdict.AGREE, unit, tolerance=tolerance)
    left, right = np.asarray(left, float), np.asarray(right, float)
    return compare_arrays(blank, left, right, left.shape, "float64")


def test_where_both_sides_are_lost_that_is_the_worst_place_unless_something_else_fails():
    one = compared([3.0, 2.0, np.nan, 1.0], [3.0, 2.0, np.nan, 1.0])
    assert (one.verdict, one.worst.index, one.used) == (Verdict.ERROR, (2,), np.inf)
    assert (one.failing, one.lost, one.differing, one.first_failing) == (1, 1, 1, (2,))
    one = compared([3.0, 2.0, np.nan, 1.0], [3.0, 2.0, np.nan, 1.5])
    assert (one.verdict, one.worst.index) == (Verdict.DIFFER, (3,))
    assert one.used == pytest.approx(0.5 / 3e-14)
    assert (one.failing, one.lost, one.differing, one.first_failing) == (2, 1, 2, (2,))
    one = compared([3.0, np.inf, np.nan], [3.0, 2.0, np.nan])
    assert (one.verdict, one.worst.index, one.used) == (Verdict.DIFFER, (1,), np.inf)
    assert one.reason == "one side is not finite from epoch 1"


def test_where_something_else_fails_the_lost_come_after_what_is_equal():
    one = compared([np.nan, 2.0, 1.0], [np.nan, 2.0, 1.5], "w")
    assert [place.index[0] for place in one.places] == [2, 1, 0]


def test_ten_places_are_named_the_worst_first_and_of_equals_the_first():
    left = np.full(14, 8.0)
    distance = np.array([1, 5, 2, 5, 3, 1, 1, 4, 1, 1, 1, 6, 1, 1], float)
    one = compared(left, left + distance, "w")
    assert [place.index[0] for place in one.places] == [11, 1, 3, 7, 4, 2, 0, 5, 6, 8]
    assert one.worst is one.places[0]
    assert (one.failing, one.differing, one.elements) == (14, 14, 14)
    few = compared(left[:3], left[:3] + distance[:3], "w")
    assert [place.index[0] for place in few.places] == [1, 2, 0]
    exact = compared(left[:10], left[:10] + distance[:10], "w")
    assert len(exact.places) == 10


def test_nothing_that_differs_needs_no_tolerance():
    one = compared([1.0, 2.0], [1.0, 2.0])
    assert (one.smallest_rtol, one.smallest_atol, one.used, one.first_failing) == (0.0, 0.0, 0.0, None)
    assert one.detectable == pytest.approx(1e-14)


def test_the_smallest_tolerances_are_those_that_pass():
    one = compared([4.0, 2.0], [4.0, 3.0], "loss", Tolerance(0.125, 0.25, True, "test"))
    assert (one.verdict, one.used) == (Verdict.DIFFER, pytest.approx(1 / 0.75))
    assert one.smallest_rtol == pytest.approx(0.75 / 4, rel=1e-12)
    assert one.smallest_atol == pytest.approx(0.5, rel=1e-12)
    assert one.smallest_rtol > 0.75 / 4
    assert one.smallest_atol > 0.5
    assert one.smallest_rtol < 0.75 / 4 + 1e-15


@dataclasses.dataclass(frozen=True)
class Limits:
    """A judge with a limit for each element; it sees nothing where that is more than a tenth."""

    each: tuple
    rtol = atol = 0.0
    scaled = True
    kind, source = "budget", "test"

    def scale(self, left, is_loss):
        return scaled(left, is_loss)

    def limit(self, quantity, scale):
        return np.asarray(self.each, float)

    def uninformative(self, quantity, scale):
        return np.asarray(self.each) > 0.1


def test_where_nothing_could_be_caught_that_is_said_with_its_share_and_growth():
    losses = np.ones(6)
    one = compared(losses, losses, tolerance=Limits((0.0, 0.01, 0.02, 0.04, 0.08, 0.16)))
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.reason == (
        "rounding alone is so large from epoch 5 on (17% of the values) that nothing could be caught; it grows 2 times an epoch"
    )
    one = compared(losses, losses, tolerance=Limits((0.0, 0.01, 0.01, 0.01, 0.01, 0.16)))
    assert "it grows 2 times an epoch" in one.reason
    one = compared(losses, losses, tolerance=Limits((0.2, 0.2, 0.2, 0.2, 0.2, 0.2)))
    assert one.reason.endswith("from epoch 0 on (100% of the values) that nothing could be caught")
    one = compared(losses, losses, tolerance=Limits((0.1, 0.05, 0.05, 0.05, 0.05, 0.2)))
    assert "it grows 1.1 times" in one.reason
    one = compared(losses, losses, tolerance=Limits((0.2, 0.05, 0.05, 0.05, 0.05, 0.2)))
    assert "grows" not in one.reason
    one = compared(losses, losses, tolerance=Limits((0.4, 0.3, 0.05, 0.05, 0.05, 0.2)))
    assert "grows" not in one.reason
    one = compared(losses, losses, "w", Limits((0.0, 0.01, 0.02, 0.04, 0.08, 0.16)))
    assert "grows" not in one.reason
    one = compared(losses, losses, tolerance=Limits((np.inf, 0.01, 0.02, 0.04, 0.08, 0.16)))
    assert "grows" not in one.reason


def test_where_nothing_could_be_caught_a_difference_is_one_all_the_same():
    losses = np.ones(2)
    assert compared(losses, losses + 1, tolerance=Limits((0.2, 0.2))).verdict is Verdict.DIFFER


@pytest.mark.parametrize(
    ("left", "right", "ulps"),
    [
        (1.0, 1.0, 0),
        (1.0, np.nextafter(1.0, 2.0), 1),
        (np.nextafter(1.0, 0.0), np.nextafter(1.0, 2.0), 2),
        (0.0, -0.0, 0),
        (-5e-324, 5e-324, 2),
        (-1.0, np.nextafter(-1.0, 0.0), 1),
        (np.nan, 1.0, None),
        (1.0, np.inf, None),
    ],
)
def test_units_in_the_last_place(left, right, ulps):
    left, right = np.float64(left), np.float64(right)
    assert ulps_between(left, right) == ulps_between(right, left) == ulps


def test_ranks_are_in_the_order_of_the_numbers_and_next_to_one_another():
    small = np.array([-3, -2, -1, 0, 1, 2, 3]) * np.float64(5e-324)
    np.testing.assert_array_equal(rank(small), [-3, -2, -1, 0, 1, 2, 3])
    values = np.array([-2.0, -1.0, -1e-300, 0.0, 1e-300, 1.0, 2.0])
    assert (np.diff(rank(values)) > 0).all()
    np.testing.assert_array_equal(rank(-values[::-1]), -rank(values)[::-1])


def test_a_ratio_over_nothing():
    distance = np.array([0.0, 0.0, 1.0, 1.0, np.inf, np.inf, np.nan, 3.0])
    scale = np.array([0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 1.0, 1e-308 / 1e3])
    np.testing.assert_array_equal(ratio(distance, scale), [0, 0, np.inf, 0.5, np.inf, np.inf, np.nan, np.inf])


def test_a_place_has_every_figure():
    left, right = np.array([2.0, -4.0]), np.array([2.0, -5.0])
    one = place((1,), left, right, np.array([8.0, 8.0]))
    assert (one.index, one.left, one.right) == ((1,), -4.0, -5.0)
    assert (one.absolute, one.relative, one.scaled, one.ulps) == (1.0, 0.25, 0.125, 2**50)
    one = place((0,), np.array([0.0]), np.array([1.0]), np.array([0.0]))
    assert (one.relative, one.scaled) == (np.inf, np.inf)


def test_a_run_that_nobody_timed_took_no_time():
    assert Run("p", "float64", "a", Verdict.SKIPPED, "not today").seconds == 0.0


def test_of_other_shapes_no_element_is_counted():
    one = compared([1.0, 2.0], [1.0], "w")
    assert (one.verdict, one.failing, one.differing, one.lost) == (Verdict.DIFFER, 1, 0, 0)


def test_the_limit_of_a_row_is_what_its_distance_is_a_share_of():
    one = compared([4.0, 1.0], [4.0, 1.5], "w", Tolerance(0.0625, 0.0, True, "test"))
    row = _worst(one, 3)
    assert (row.step, row.name, row.absolute, row.scale, row.limit) == (3, "free/w", 0.5, 4.0, 0.25)


@pytest.mark.parametrize(("first", "verdict"), [(1e-6, Verdict.AGREE), (1e-12, Verdict.INCONCLUSIVE)])
def test_losses_that_grow_could_have_failed_where_the_first_could(first, verdict):
    """The last is rounding alone; of the first the scale is its own, and not that of the last."""
    spreads = {"loss": np.array([1e-10, 0.1])}
    budget = Budget(spreads, 0.0, 8, 0.0, Tolerance(5.4e-6, 0.0, True, "test"))
    losses = np.array([first, 1.0])
    agreed = Comparison("p", "float32", "a", "b", "loss", Verdict.AGREE, tolerance=budget)
    assert [one.verdict for one in without_vacuous([agreed], {"loss": losses})] == [verdict]
