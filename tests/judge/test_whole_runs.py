"""Two whole runs compared: the first step that differs, what one side lacks, and limits that are not known."""

import numpy as np
import pytest

from lockstep import Verdict
from lockstep.harness.numerics.limits import of_rounding
from lockstep.harness.runs.trajectory import compare_trajectories

LOSSES = np.array([4.0, 2.0, 1.0, 0.5])
W = np.array([1.0, -8.0])
RUN = {"loss": LOSSES, "parameters/w": W}


def rows(left, right, limits, prefix=""):
    return {row.name: row for row in compare_trajectories(left, right, limits, prefix).rows}


def even(loss, w=0.0):
    return {"loss": np.full(4, loss), "parameters/w": np.full(2, w)}


def test_what_one_side_lacks_differs_at_the_last_step_and_is_named():
    found = rows(RUN, {"loss": LOSSES, "parameters/v": W}, even(0.1), "free/")
    assert list(found) == ["free/loss", "free/parameters/w", "free/parameters/v"]
    assert [found[name].verdict for name in found] == [Verdict.AGREE, Verdict.DIFFER, Verdict.DIFFER]
    assert found["free/parameters/w"].reason == "missing from the other side"
    assert found["free/parameters/v"].reason == "missing from the reference"
    assert {row.step for row in found.values()} == {3}


def test_the_first_step_whose_loss_differs_is_named():
    right = LOSSES + np.array([0.0, 0.05, 0.3, 0.9])
    row = rows(RUN, {**RUN, "loss": right}, even(0.1, 0.1))["loss"]
    assert (row.verdict, row.step, row.index, row.left, row.right) == (Verdict.DIFFER, 2, (2,), 1.0, 1.3)
    assert (row.absolute, row.scale, row.limit) == (pytest.approx(0.3), 4.0, 0.1)
    row = rows(RUN, {**RUN, "loss": np.array([4.0, np.nan, 1.0, 0.5])}, even(0.1, 0.1))["loss"]
    assert (row.verdict, row.step, row.reason) == (Verdict.DIFFER, 1, "one side is not finite")


def test_losses_that_agree_are_judged_by_the_last():
    row = rows(RUN, {**RUN, "loss": LOSSES + 0.05}, even(0.1, 0.1))["loss"]
    assert (row.verdict, row.step, row.reason) == (Verdict.AGREE, 3, "")
    # A limit as large as the last loss, but not as the first: it is what is left of a difference of large numbers.
    row = rows(RUN, RUN, even(0.6, 0.1))["loss"]
    assert (row.verdict, row.reason) == (Verdict.AGREE, "")
    row = rows(RUN, RUN, even(4.0, 0.1))["loss"]
    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, "rounding alone is as large as the value")


def test_the_limits_of_a_run_of_another_length_count_with_their_largest():
    limits = {"loss": np.array([0.1, 0.4]), "parameters/w": np.array([0.0, 0.3, 0.1])}
    right = {"loss": LOSSES + 0.3, "parameters/w": W + 0.2}
    assert {row.verdict for row in rows(RUN, right, limits).values()} == {Verdict.AGREE}
    right = {"loss": LOSSES + 0.5, "parameters/w": W + 0.4}
    assert {row.verdict for row in rows(RUN, right, limits).values()} == {Verdict.DIFFER}


def test_without_a_limit_nothing_is_decided_but_what_is_equal_to_the_eye():
    found = rows(RUN, RUN, {})
    assert {row.verdict for row in found.values()} == {Verdict.INCONCLUSIVE}
    assert {row.reason for row in found.values()} == {"no limit is known"}


def test_losses_of_other_lengths_differ():
    row = rows(RUN, {**RUN, "loss": LOSSES[:3]}, even(0.1, 0.1))["loss"]
    assert (row.verdict, row.reason) == (Verdict.DIFFER, "shape (4,) against (3,)")


@pytest.mark.parametrize(("dtype", "eps"), [("float64", 2.0**-52), ("float32", 2.0**-23)])
def test_rounding_is_forty_five_units_of_the_first_loss_and_of_a_leafs_largest(dtype, eps):
    """The first loss, or a later one that is larger; 45 units are those of the fixed tolerance."""
    limits = of_rounding(dtype, {"loss": np.array([4.0, 2.0, 16.0]), "parameters/w": W})
    np.testing.assert_allclose(limits["loss"], 45 * eps * np.array([4.0, 4.0, 16.0]), rtol=1e-12)
    np.testing.assert_allclose(limits["parameters/w"], 45 * eps * np.array([8.0, 8.0]), rtol=1e-12)
