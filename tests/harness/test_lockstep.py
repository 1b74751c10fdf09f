"""The lockstep run and its ledger: equal inputs, the order of a row's checks, blame, the steps, carried state."""

import dataclasses

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.errors import LockstepError
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import Average, Batching, Layer, Optimizer, Schedule
from lockstep.harness.core.ledger import Ledger, Row, compare, compare_stages
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.limits import UNITS, of_run_inputs, of_stage_inputs
from lockstep.harness.problems import find
from lockstep.harness.problems.initial import draw
from lockstep.harness.runs.continuation import carried_state
from lockstep.harness.runs.free_run import train
from lockstep.harness.runs.lockstep_run import MOST_STEPS, chosen_steps, lockstep_run
from lockstep.harness.runs.stages import stages_of
from lockstep.harness.runs.trajectory import compare_trajectories, trajectory
from tests.conftest import BACKENDS, square_problem
from tests.meta import faults, stage_faults, step_faults
from tests.meta.stepwise import StepwiseTrainer

NORMED = (Layer("linear", size=4), Layer("batch_norm"), Layer("dropout", rate=0.25), Layer("linear", size=2))
PROBLEMS = {
    "square": square_problem(),
    "adam": square_problem(optimizer=Optimizer("adam", learning_rate=0.01, weight_decay=0.1)),
    "accumulated": square_problem(
        batching=Batching(size=5, shuffle=1), accumulation=4, average=Average("ema", decay=0.9), epochs=4
    ),
    "normed": square_problem(model=NORMED, initial=draw(NORMED, (3,), seed=1)),
}


NOISE = {"gradient/0.linear/b", "step/parameters/0.linear/b"}
"""A bias before a batch norm has gradient 0: its row is INCONCLUSIVE, rounding alone is as large as the value."""


def against_numpy(problem, trainer, steps=None):
    limits = of_stage_inputs(problem, NumPyTrainer(problem))
    return lockstep_run(
        problem, NumPyTrainer(problem), trainer, steps or chosen_steps(problem), limits
    ).ledger


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_no_row_of_a_healthy_backend_differs(name, problem):
    ledger = against_numpy(problem, backends.load(name).trainer(problem))
    assert ledger.verdict is Verdict.AGREE
    assert {row.name for row in ledger.rows if row.verdict is not Verdict.AGREE} <= NOISE
    kinds = {row.kind for row in ledger.rows}
    assert {
        "given",
        "initial",
        "batch",
        "forward",
        "loss",
        "cotangent",
        "gradient",
        "update",
        "count",
    } <= kinds
    assert ("buffers" in kinds) == bool(problem.buffers)
    assert ("optimizer" in kinds) == bool(problem.optimizer.state)
    assert ("accumulator" in kinds) == ("average" in kinds) == (problem.accumulation > 1)


@pytest.mark.parametrize(
    "name", ["seed", "momentum", "adamw", "rmsprop-centered", "lion", "schedule-piecewise"]
)
def test_no_row_of_the_catalogue_differs_in_float32(name):
    """torch; Adam's bias corrections in JAX do differ in float32."""
    problem = find(name).replace(dtype="float32")
    ledger = against_numpy(problem, backends.load("torch").trainer(problem), [0, 1, 5])
    assert ledger.verdict is Verdict.AGREE
    assert ledger.blamed == []


def test_the_float32_bias_correction_of_optax_is_seen_and_placed():
    problem = find("adam").replace(dtype="float32")
    first = against_numpy(problem, backends.load("jax").trainer(problem), [0]).first
    assert (first.step, first.kind) == (0, "update")
    assert first.distance < 1e-5


def test_stages_come_in_the_order_of_computation():
    problem = PROBLEMS["adam"]
    ledger = against_numpy(problem, NumPyTrainer(problem), [0])
    kinds = list(dict.fromkeys(row.kind for row in ledger.rows))
    assert kinds == [
        *("given", "initial", "state", "batch", "forward", "loss", "cotangent", "gradient"),
        *("optimizer", "update", "parameters", "count", "step"),
    ]
    forward, backward = (
        [row.part for row in ledger.rows if row.kind == kind] for kind in ("forward", "cotangent")
    )
    assert forward == ["0.linear", "1.dot", "2.add"] == backward[::-1]


def test_what_follows_a_bad_stage_is_not_blamed():
    """One layer is wrong: those after it, the loss, the cotangents and the gradients follow; the update has its own input."""
    fault = stage_faults.ForwardOff
    ledger = against_numpy(fault.problem, fault(fault.problem), [0, 1])
    assert {row.name for row in ledger.blamed} == {"forward/1.tanh"}
    first_step = {row.name: row for row in ledger.rows if row.step == 0}
    assert first_step["forward/2.linear"].follows == "forward/1.tanh"
    assert first_step["loss"].follows == "forward/1.tanh"
    assert first_step["gradient/2.linear/w"].follows == "forward/1.tanh"
    assert first_step["update/2.linear/w"].verdict is Verdict.AGREE


def test_the_gradients_of_one_side_go_into_the_optimizer_of_the_other():
    """A sign that is lost in `gradients` shows there alone; the optimizer is exonerated."""
    fault = stage_faults.GradientOfOneParameter
    ledger = against_numpy(fault.problem, fault(fault.problem), [0])
    assert [row.name for row in ledger.blamed] == ["gradient/1.dot/w"]
    assert ledger.blamed[0].index == (2, 1)
    kinds = {row.kind for row in ledger.rows if row.verdict is Verdict.DIFFER}
    assert kinds == {"gradient", "step"}


def test_errors_do_not_accumulate():
    """A learning rate that is off by 1e-10 is as far off at the last step as at the first."""
    problem = square_problem(epochs=50)
    ledger = against_numpy(problem, faults.LearningRateOff(problem), [0, 49])
    distances = [row.distance for row in ledger.rows if row.name == "update/0.linear/b"]
    assert distances == pytest.approx([1e-10, 1e-10], rel=1e-3)
    assert {row.step for row in ledger.blamed} == {0, 49}


@pytest.mark.parametrize("steps", [[], [-1], [0, 6], [10**9]], ids=str)
def test_steps_beyond_the_run_are_refused(steps):
    problem = square_problem()
    with pytest.raises(LockstepError, match="not steps of the run"):
        lockstep_run(
            problem,
            NumPyTrainer(problem),
            NumPyTrainer(problem),
            steps,
            of_stage_inputs(problem, NumPyTrainer(problem)),
        )


def test_the_steps_looked_at_are_the_first_the_last_and_both_sides_of_each_boundary():
    problem = square_problem(
        epochs=1000, schedule=Schedule("piecewise", boundaries=[100, 400], factors=[0.5, 0.1])
    )
    steps = chosen_steps(problem)
    assert {0, 1, 2, 99, 100, 399, 400, 999} <= set(steps)
    assert len(steps) <= MOST_STEPS
    assert 777 in chosen_steps(problem, also=[777, 10**6])
    assert 10**6 not in chosen_steps(problem, also=[10**6])
    assert chosen_steps(square_problem(epochs=1)) == [0]


def test_shape_then_dtype_then_finiteness_then_value():
    ones = np.ones((2, 2))
    for other, reason in (
        (np.ones((2, 1), np.float32), "shape (2, 2) against (2, 1)"),
        (np.full((2, 2), np.nan, np.float32), "dtype float64 against float32"),
        (np.full((2, 2), np.nan), "one side is not finite"),
        (ones + 1e-3, "beyond its limit"),
    ):
        row = compare(0, "loss", ones, other, 1e-4)
        assert (row.verdict, row.reason) == (Verdict.DIFFER, reason)
    assert compare(0, "loss", ones, ones + 1e-3, 1e-2).verdict is Verdict.AGREE


def test_what_cannot_be_judged_is_never_agreement():
    ones, lost = np.ones(2), np.array([1, np.inf])
    assert compare(0, "loss", lost, lost, 1.0).verdict is Verdict.ERROR
    assert compare(0, "loss", ones, ones, 1.0).verdict is Verdict.INCONCLUSIVE
    assert compare(0, "loss", ones, ones, np.nan).verdict is Verdict.INCONCLUSIVE
    assert compare(0, "loss", ones[:0], ones[:0], 1.0).verdict is Verdict.SKIPPED
    assert Ledger(()).verdict is Verdict.INCONCLUSIVE
    assert Ledger((Row(0, "loss", Verdict.SKIPPED),)).verdict is Verdict.INCONCLUSIVE


def test_a_name_on_one_side_only_differs():
    rows = compare_stages(3, {"gradient/a": np.ones(1)}, {"gradient/b": np.ones(1)}, {})
    assert [(row.name, row.reason) for row in rows] == [
        ("gradient/a", "missing from the other side"),
        ("gradient/b", "missing from the reference"),
    ]


def test_the_worst_element_is_told_with_both_values():
    left, right = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 2.0], [3.5, -4.0]])
    row = compare(0, "gradient/w", left, right, 1e-3)
    assert (row.index, row.left, row.right, row.absolute, row.distance) == ((1, 0), 3.0, 3.5, 0.5, 0.125)


def test_a_limit_is_forty_five_units_of_what_is_compared_and_of_an_update_those_of_the_parameter():
    problem = square_problem()
    trainer, batch = NumPyTrainer(problem), next(iter(problem.batches()))
    snapshot = trainer.read(trainer.init())
    limits = of_stage_inputs(problem, NumPyTrainer(problem))(snapshot, batch)
    stages = stages_of(trainer, snapshot, batch)
    eps = np.finfo(np.float64).eps
    for name, value in stages.items():
        assert limits[name] >= UNITS * eps * np.abs(value).max()
    assert limits["update/0.linear/w"] >= UNITS * eps * np.abs(snapshot.parameters["0.linear/w"]).max()
    assert limits["update/0.linear/w"] < 1e-12


def test_the_limits_can_be_replaced():
    problem = square_problem()
    wide = lambda snapshot, batch: dict.fromkeys(stages_of(NumPyTrainer(problem), snapshot, batch), 1e-9)  # noqa: E731
    ledger = lockstep_run(problem, NumPyTrainer(problem), faults.LearningRateOff(problem), [0], wide).ledger
    assert ledger.verdict is Verdict.AGREE


def test_a_reference_that_is_not_finite_ends_the_run():
    problem = square_problem(epochs=2000, optimizer=Optimizer("sgd", learning_rate=50.0))
    ledger = against_numpy(problem, NumPyTrainer(problem))
    assert ledger.verdict is Verdict.ERROR
    assert ledger.rows[-1].reason.startswith("the reference diverged")
    assert len(ledger.steps) > 1


def carried(problem, trainer):
    limits = of_run_inputs(problem, NumPyBackend())
    return carried_state(problem, lambda: trainer(problem), limits)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_healthy_backend_carries_its_state(name, problem):
    ledger = carried(problem, backends.load(name).trainer)
    assert ledger.verdict is Verdict.AGREE
    assert {row.kind for row in ledger.rows} == {"fit", "continued"}
    assert {row.name for row in ledger.rows if row.verdict is not Verdict.AGREE} <= {
        "fit/parameters/0.linear/b"
    }


@pytest.mark.parametrize(
    ("problem", "fault", "name"),
    [
        ("square", faults.OneEpochShort, "fit/loss"),
        ("square", stage_faults.FusedPathOff, "fit/loss"),
        ("square", faults.StaleGradient, "fit/loss"),
        ("adam", stage_faults.CounterReset, "continued/parameters/0.linear/b"),
        ("adam", stage_faults.MomentNotPersisted, "continued/parameters/0.linear/b"),
        ("accumulated", step_faults.RemainderApplied, "fit/parameters/0.linear/b"),
        ("accumulated", step_faults.AccumulatorNotPersisted, "continued/accumulator/0.linear/b"),
        ("accumulated", step_faults.AverageNotPersisted, "continued/average/0.linear/b"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_is_not_carried_is_named(problem, fault, name):
    if fault is step_faults.RemainderApplied:
        problem = PROBLEMS[problem].replace(epochs=3)
    else:
        problem = PROBLEMS[problem]
    assert carried(problem, fault).first.name == name


def test_a_trainer_that_cannot_take_a_snapshot_is_told():
    class Forgetful(StepwiseTrainer):
        def read(self, state):
            return dataclasses.replace(super().read(state), optimizer={})

    first = carried(PROBLEMS["adam"], Forgetful).first
    assert "cannot continue from its own snapshot: KeyError" in first.reason


def test_rounding_grows_where_the_problem_lets_it():
    """On the edge of stability the limits widen from step to step; of a tame descent they stay."""
    wild, tame = (
        stage_faults.DEEP.replace(epochs=60, optimizer=Optimizer("sgd", learning_rate=rate))
        for rate in (1.0, 0.01)
    )
    limits = [of_run_inputs(one, NumPyBackend())["loss"] for one in (wild, tame)]
    assert limits[0][-1] > 100 * limits[0][0]
    assert limits[1][-1] < 2 * limits[1][0]


def test_whole_runs_of_different_length_differ():
    problem = square_problem()
    limits = of_run_inputs(problem, NumPyBackend())
    whole = trajectory(train(problem, NumPyTrainer(problem)))
    short = trajectory(train(problem, faults.OneEpochShort(problem)))
    for left, right in ((whole, short), (short, whole)):
        row = compare_trajectories(left, right, limits).first
        assert row.name == "loss"
        assert row.reason.startswith("shape")
    assert compare_trajectories(whole, whole, limits).verdict is Verdict.AGREE
