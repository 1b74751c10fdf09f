"""The alarm, tested: every fault planted in a backend is caught, and the healthy backend is not."""

import pytest

import lockstep
from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.backends.problem import Batching
from lockstep.harness.core.verdict import Verdict
from tests.conftest import square_problem
from tests.meta import faults


def judged(fault, dtype, backends=("numpy",)):
    return lockstep.verify(square_problem(), backends=[*backends, faults.Broken(fault)], dtypes=[dtype])


def test_a_second_healthy_backend_agrees():
    assert judged(NumPyTrainer, "float64").verdict is Verdict.AGREE


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_differs_in_float64(fault):
    result = judged(fault, "float64")
    assert result.verdict is Verdict.DIFFER, result.census()


SUBTLE = {faults.LearningRateOff, faults.SinglePrecisionInside}
"""Below float32's rounding: invisible there by construction, which is why both dtypes are run."""


@pytest.mark.parametrize("fault", sorted(set(faults.FAULTS) - SUBTLE, key=lambda fault: fault.__name__))
def test_every_gross_fault_differs_in_float32(fault):
    assert judged(fault, "float32").verdict is Verdict.DIFFER


@pytest.mark.parametrize(
    "fault", [faults.SignFlipped, faults.OneEpochShort], ids=lambda fault: fault.__name__
)
def test_the_healthy_pair_is_told_from_the_broken_one(fault):
    """Beside two healthy backends, every disagreement involves the broken one."""
    result = judged(fault, "float64", ("numpy", "torch"))
    for one in result.comparisons:
        if "broken" not in (one.left, one.right):
            assert one.verdict is Verdict.AGREE
    assert result.verdict is Verdict.DIFFER


def test_the_census_names_what_parted():
    assert "epoch 0" in judged(faults.MeanForSum, "float64").census()
    assert "2.add/b: DIFFER" in judged(faults.ForgottenBias, "float64").census()
    assert "shape (6,) against (5,)" in judged(faults.OneEpochShort, "float64").census()


@pytest.mark.parametrize(
    "fault", [faults.OtherOrder, faults.OneEpochShort, NumPyTrainer], ids=lambda one: one.__name__
)
def test_faults_of_minibatches_are_caught(fault):
    """The same rows in another order: each epoch's sum of gradients would hide it, each step's loss does not."""
    problem = square_problem(batching=Batching(size=5, shuffle=1))
    result = lockstep.verify(problem, backends=["numpy", faults.Broken(fault)])
    assert result.verdict is (Verdict.AGREE if fault is NumPyTrainer else Verdict.DIFFER)
