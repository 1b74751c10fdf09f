"""What rounding may do to an optimizer alone, and what is read off its updates: each number from both sides.

Both sides are formulas of the catalogue in NumPy. `README.md` in this folder lists the numbers, and by how much each may
be off before a test here fails.
"""

import pytest

from lockstep import Verdict
from lockstep.backends.problem import Optimizer
from lockstep.harness.conformance import check_optimizer
from lockstep.harness.conformance.optimizers import OPTIMIZER_CHECKS


def descent(rate, share=0.0):
    return Optimizer("sgd", learning_rate=rate * (1 + share))


def checked(rate, share, dtype, *names):
    """Descent at a rate that is off by a share, against descent at that rate; by default by all checks."""
    checks = [one for one in OPTIMIZER_CHECKS if one.name in names] or OPTIMIZER_CHECKS
    settings = {"dtypes": [dtype], "shapes": {"w": (3, 2)}, "updates": 10, "checks": checks}
    return check_optimizer(descent(rate, share), against=descent(rate), **settings)


@pytest.mark.parametrize(
    ("dtype", "share", "verdict"),
    [
        ("float64", 1.7e-14, Verdict.AGREE),
        ("float64", 9e-14, Verdict.DIFFER),
        ("float32", 1e-5, Verdict.AGREE),
        ("float32", 5e-5, Verdict.DIFFER),
    ],
)
def test_a_rate_off_as_one_that_was_rounded_passes_and_five_times_that_does_not(dtype, share, verdict):
    """Updates from zeros, so that they are as exact as they can be; over twelve of them 5.7e-14 and 3e-5 add up."""
    assert checked(0.1, share, dtype, "tiny gradients").verdict is verdict


@pytest.mark.parametrize(("dtype", "share"), [("float64", 1.7e-14), ("float32", 1e-5)])
def test_no_check_says_that_a_rounded_rate_differs(dtype, share):
    report = checked(0.1, share, dtype)
    assert report.verdict is Verdict.AGREE, report.census()


@pytest.mark.parametrize(("rate", "verdict"), [(1.5e-12, Verdict.AGREE), (3e-13, Verdict.INCONCLUSIVE)])
def test_updates_that_rounding_may_move_by_a_hundredth_prove_nothing(rate, verdict):
    """An update of 1e-12 to a number of about 1 is known to a few thousandths, one of 3e-13 to a few hundredths."""
    report = checked(rate, 1e-3, "float64", "first update")
    assert report.verdict is verdict, report.census()


@pytest.mark.parametrize(
    ("rate", "share"),
    [
        (0.1, 3e-4),
        (0.1, 6e-5),
        (0.01, 0.1),  # updates of 1e-3 beside numbers of about 1: their quotients are known to 2e-5
    ],
)
def test_a_rate_that_is_off_by_more_than_rounding_is_read_off(rate, share):
    report = checked(rate, share, "float32")
    assert report.verdict is Verdict.DIFFER
    assert report.explanation.name == "learning rate"


@pytest.mark.parametrize(("share", "name"), [(1e-5, "single precision"), (4e-5, "learning rate")])
def test_single_precision_explains_what_rounding_to_float32_would_do_and_no_more(share, name):
    report = checked(0.1, share, "float64")
    assert report.verdict is Verdict.DIFFER
    assert report.explanation.name == name


@pytest.mark.parametrize(("rate", "share"), [(1e-3, 3e-5), (1e-5, 3e-4)])
def test_a_small_rate_that_is_off_is_read_off_where_it_is_known_best(rate, share):
    report = checked(rate, share, "float64")
    assert report.verdict is Verdict.DIFFER
    assert report.explanation is not None
    assert report.explanation.name == "learning rate"
