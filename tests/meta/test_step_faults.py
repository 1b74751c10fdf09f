"""The alarm for what surrounds the optimizer: mistakes of accumulation, averages and penalties are caught."""

import pytest

import lockstep
from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.backends.problem import Average, Batching, Penalty, Schedule
from lockstep.harness.conformance import CHECKS, Case, Nonconformity
from lockstep.harness.conformance.subject import Subject
from lockstep.harness.core.verdict import Verdict
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
    return lockstep.verify(PROBLEM, backends=["numpy", Broken(fault)], dtypes=[dtype])


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
    assert_only_the_fault_fails("continues", fault)


def test_accumulating_outside_apply_fails_conformance():
    assert_only_the_fault_fails("gradients update nothing", UpdatesBetween)


def assert_only_the_fault_fails(name, fault):
    (rule,) = (one for one in CHECKS if one.name == name)
    Case(rule, Subject(Broken(NumPyTrainer), PROBLEM)).run()
    with pytest.raises(Nonconformity):
        Case(rule, Subject(Broken(fault), PROBLEM)).run()
