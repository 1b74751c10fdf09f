"""Rows of a ledger: what each verdict needs, where the worst element is, and which row is to blame."""

import dataclasses

import numpy as np
import pytest

from lockstep import Verdict
from lockstep.harness.core.ledger import Ledger, Row, compare_stages


def only(name, left, right, limit=0.0, step=4):
    (row,) = compare_stages(step, {name: np.asarray(left)}, {name: np.asarray(right)}, {name: limit})
    return row


def test_a_row_names_its_worst_element_and_is_scaled_by_the_references_largest():
    row = only("update/1.dot/w", [[1.0, -8.0], [2.0, 3.0]], [[1.5, -8.0], [0.0, 3.0]], 1.0)
    assert (row.step, row.kind, row.part) == (4, "update", "1.dot/w")
    assert (row.index, row.left, row.right) == ((1, 0), 2.0, 0.0)
    assert (row.absolute, row.scale, row.limit, row.distance) == (2.0, 8.0, 1.0, 0.25)
    assert (row.verdict, row.reason, row.follows) == (Verdict.DIFFER, "beyond its limit", "")
    assert row.blamed


def test_a_row_that_agrees_has_no_reason_and_is_not_blamed():
    row = only("loss", [1.0], [1.25], 0.5)
    assert (row.verdict, row.reason, row.blamed) == (Verdict.AGREE, "", False)
    assert row.absolute == 0.25


@pytest.mark.parametrize(
    ("left", "right", "verdict", "reason", "index"),
    [
        ([1.0, 2.0], [1.0, np.nan], Verdict.DIFFER, "one side is not finite", (1,)),
        ([1.0, np.inf], [1.0, 2.0], Verdict.DIFFER, "one side is not finite", (1,)),
        ([np.nan, 5.0], [np.nan, np.inf], Verdict.DIFFER, "one side is not finite", (1,)),
        ([3.0, np.nan], [3.0, np.inf], Verdict.ERROR, "neither side is finite", (1,)),
        ([np.nan, np.nan], [np.nan, np.nan], Verdict.ERROR, "neither side is finite", (0,)),
    ],
)
def test_what_is_not_finite_never_agrees_however_wide_the_limit(left, right, verdict, reason, index):
    row = only("loss", left, right, 1e300)
    assert (row.verdict, row.reason, row.index) == (verdict, reason, index)
    assert row.absolute == (np.inf if verdict is Verdict.DIFFER else 0.0)
    finite = [abs(one) for one in left if np.isfinite(one)]
    assert row.scale == max(finite, default=0.0)


def test_numbers_that_overflow_when_they_are_subtracted_differ():
    row = only("loss", [1.7e308], [-1.7e308], 1e308)
    assert (row.verdict, row.absolute) == (Verdict.DIFFER, np.inf)


def test_shapes_come_before_dtypes_and_dtypes_before_values():
    row = only("loss", np.ones((1, 2)), np.ones(2, np.float32), 9.0)
    assert (row.verdict, row.reason) == (Verdict.DIFFER, "shape (1, 2) against (2,)")
    row = only("loss", np.ones(2), np.ones(2, np.float32), 9.0)
    assert (row.verdict, row.reason) == (Verdict.DIFFER, "dtype float64 against float32")
    row = only("count", np.asarray(3), np.asarray(3, dtype=np.int32))
    assert row.verdict is Verdict.AGREE  # a framework counts in its own integers
    row = only("loss", np.ones(0), np.ones(0), 9.0)
    assert (row.verdict, row.reason) == (Verdict.SKIPPED, "it has no elements")


def test_a_stage_of_one_side_alone_differs_and_says_which_lacks_it():
    one = np.ones(1)
    rows = compare_stages(0, {"loss": one, "forward/a": one}, {"loss": one, "forward/b": one}, {"loss": 0.5})
    assert [(row.name, row.reason) for row in rows] == [
        ("loss", ""),
        ("forward/a", "missing from the other side"),
        ("forward/b", "missing from the reference"),
    ]
    assert [row.verdict for row in rows] == [Verdict.AGREE, Verdict.DIFFER, Verdict.DIFFER]


def test_what_is_out_of_reach_is_skipped_with_its_reason_whatever_it_holds():
    rows = compare_stages(
        0, {"forward/a": np.ones(1)}, {"forward/a": np.zeros(1)}, {}, {"forward": "it cannot be observed"}
    )
    assert [(row.verdict, row.reason) for row in rows] == [(Verdict.SKIPPED, "it cannot be observed")]


def blamed(
    *names,
    every=(
        "state/w",
        "batch/x",
        "forward/0",
        "loss",
        "cotangent/0",
        "gradient/w",
        "optimizer/m/w",
        "update/w",
        "parameters/w",
    ),
):
    """Of a step in which these stages differ: name -> what it follows."""
    left = {name: np.ones(1) for name in every}
    right = {name: np.full(1, 2.0 if name in names else 1.0) for name in every}
    rows = compare_stages(0, left, right, dict.fromkeys(every, 0.5))
    return {row.name: row.follows for row in rows if row.verdict is Verdict.DIFFER}, Ledger(tuple(rows))


@pytest.mark.parametrize(
    ("differing", "expected"),
    [
        (
            ("forward/0", "loss", "gradient/w"),
            {"forward/0": "", "loss": "forward/0", "gradient/w": "forward/0"},
        ),
        (("gradient/w",), {"gradient/w": ""}),
        # From the optimizer on the reference's gradients are injected.
        (
            ("gradient/w", "update/w", "parameters/w"),
            {"gradient/w": "", "update/w": "", "parameters/w": "update/w"},
        ),
        (("optimizer/m/w", "update/w"), {"optimizer/m/w": "", "update/w": "optimizer/m/w"}),
        (("batch/x", "forward/0"), {"batch/x": "", "forward/0": "batch/x"}),
        (("state/w", "update/w"), {"state/w": "", "update/w": "state/w"}),
        (("cotangent/0", "gradient/w"), {"cotangent/0": "", "gradient/w": "cotangent/0"}),
    ],
)
def test_good_in_bad_out_is_blamed_and_what_follows_it_is_not(differing, expected):
    found, ledger = blamed(*differing)
    assert found == expected
    assert [row.name for row in ledger.blamed] == [name for name, follows in expected.items() if not follows]
    assert ledger.first.name == ledger.blamed[0].name
    assert ledger.verdict is Verdict.DIFFER


def test_nothing_that_differs_is_nobodys_fault():
    found, ledger = blamed()
    assert (found, ledger.first, ledger.verdict) == ({}, None, Verdict.AGREE)


ROW = Row(0, "loss", Verdict.AGREE)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), Verdict.INCONCLUSIVE),
        ((Verdict.SKIPPED,), Verdict.INCONCLUSIVE),
        ((Verdict.INCONCLUSIVE, Verdict.SKIPPED), Verdict.INCONCLUSIVE),
        ((Verdict.INCONCLUSIVE, Verdict.AGREE), Verdict.AGREE),
        ((Verdict.AGREE, Verdict.ERROR), Verdict.ERROR),
        ((Verdict.ERROR, Verdict.DIFFER, Verdict.AGREE), Verdict.DIFFER),
    ],
)
def test_the_verdict_of_a_ledger(verdicts, expected):
    rows = tuple(dataclasses.replace(ROW, step=3 - at, verdict=one) for at, one in enumerate(verdicts))
    ledger = Ledger(rows)
    assert ledger.verdict is expected
    assert ledger.steps == sorted({row.step for row in rows})


def test_what_a_row_is_without_a_measurement():
    assert (ROW.absolute, ROW.scale, ROW.limit, ROW.distance) == (0.0, 0.0, 0.0, 0.0)
    assert (ROW.index, ROW.left, ROW.right, ROW.part) == ((), None, None, "")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ROW.step = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ledger(()).rows = (ROW,)
