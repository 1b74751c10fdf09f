"""The alarm for what surrounds the optimizer: mistakes of accumulation, averages and penalties are caught."""

import pytest

import harness
from backends.numpy_vjp.backend import NumPyTrainer
from backends.problem import Average, Batching, Penalty, Schedule
from harness.verdict import Verdict
from tests.backends import test_conformance as conformance
from tests.conftest import square_problem
from tests.meta.faults import Broken
from tests.meta.step_faults import CONTINUATION_FAULTS, STEP_FAULTS, UpdatesBetween

# 18 batches, four an update: two are left over.
PROBLEM = square_problem(
    batching=Batching(size=5, shuffle=1),
    schedule=Schedule("exponential", factor=0.9),
    penalties=(Penalty("l1", weight=0.01), Penalty("l2", weight=0.01)),
    accumulation=4,
    average=Average("ema", decay=0.9),
)


def judged(fault, dtype):
    return harness.verify(PROBLEM, backends=["numpy", Broken(fault)], dtypes=[dtype])


def test_the_healthy_trainer_agrees(dtype):
    result = judged(NumPyTrainer, dtype)
    assert result.verdict is Verdict.AGREE
    assert {f"average/{name}" for name in PROBLEM.parameter_shapes} <= {
        one.quantity for one in result.comparisons
    }


@pytest.mark.parametrize("fault", STEP_FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_differs(fault, dtype):
    result = judged(fault, dtype)
    assert result.verdict is Verdict.DIFFER, result.census()


def test_faults_of_the_average_leave_everything_else_equal():
    for name in ("AverageFromZero", "AverageOfEveryBatch", "AverageOfTheStepBefore", "AverageNeverKept"):
        (fault,) = (one for one in STEP_FAULTS if one.__name__ == name)
        for one in judged(fault, "float64").comparisons:
            expected = Verdict.DIFFER if one.quantity.startswith("average/") else Verdict.AGREE
            assert one.verdict is expected, (name, one.quantity)


def test_an_average_that_is_missing_is_said():
    (fault,) = (one for one in STEP_FAULTS if one.__name__ == "AverageNeverKept")
    assert "average/0.linear/w: DIFFER: missing from broken" in judged(fault, "float64").census()


@pytest.mark.parametrize("fault", CONTINUATION_FAULTS, ids=lambda fault: fault.__name__)
def test_a_lost_state_fails_the_conformance_of_continuing(fault):
    batch = next(iter(PROBLEM.batches()))
    check = conformance.test_read_write_continue_is_uninterrupted_training
    check(NumPyTrainer(PROBLEM), batch)
    with pytest.raises(AssertionError):
        check(fault(PROBLEM), batch)


def test_accumulating_outside_apply_fails_conformance():
    batch = next(iter(PROBLEM.batches()))
    check = conformance.test_gradients_update_nothing
    check(NumPyTrainer(PROBLEM), batch, PROBLEM)
    with pytest.raises(AssertionError):
        check(UpdatesBetween(PROBLEM), batch, PROBLEM)
