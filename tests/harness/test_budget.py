"""The rounding budget: what it lets pass, what it catches, and where it says that it could not have."""

import dataclasses
import re

import numpy as np
import pytest

import lockstep
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from lockstep.cli import main
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.tolerance import ToleranceError
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.budget import (
    FEWEST_TWINS,
    MOST_TWINS,
    MULTIPLE,
    deviation,
    measure,
    twins_for,
)
from lockstep.harness.problems import find
from tests.conftest import square_problem
from tests.meta.stepwise import StepwiseTrainer


class Off(NumPyBackend):
    """The NumPy backend with its learning rate, and so each gradient, off by a factor."""

    name = "off"

    def __init__(self, factor):
        self.factor = factor

    def trainer(self, problem):
        args = dict(problem.optimizer.args)
        args["learning_rate"] *= self.factor
        return NumPyTrainer(problem.replace(optimizer=Optimizer(problem.optimizer.name, **args)))


def against(factor, problem, dtype="float64"):
    return lockstep.verify(problem, backends=["numpy", Off(factor)], dtypes=[dtype])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_relative_change_of_1e_12_in_the_rate_is_found_on_the_seed_within_ten_epochs(sign):
    assert find("seed").epochs == 10
    assert against(1 + sign * 1e-12, "seed").verdict is Verdict.DIFFER
    assert against(1.0, "seed").verdict is Verdict.AGREE


def test_what_rounding_does_is_let_pass():
    assert against(1 + 2**-52, "seed").verdict is Verdict.AGREE
    assert against(1 + 2**-24, "seed", "float32").verdict is Verdict.AGREE


@pytest.mark.parametrize(("share", "verdict"), [(1.5, Verdict.DIFFER), (0.5, Verdict.AGREE)])
def test_what_is_said_to_be_caught_is_caught(share, verdict):
    """One run's losses moved by a share of their limits."""
    given = {"problems": "seed", "backends": ["numpy", "torch"], "dtypes": ["float64"]}
    result = lockstep.verify(**given)
    losses = result.runs[0].trace.losses
    limits = result.cases[0].tolerance.limit(LOSS, np.ones(len(losses)))
    trace = dataclasses.replace(result.runs[0].trace, losses=losses + share * limits)
    moved = [result.runs[0], dataclasses.replace(result.runs[1], trace=trace)]
    again = lockstep.verify(**given, trainers=lambda *chosen: iter(moved))
    found = next(one for one in again.comparisons if one.quantity == LOSS)
    assert found.verdict is verdict
    assert found.used == pytest.approx(share, rel=0.2)
    assert found.detectable == pytest.approx(np.max(limits / losses[0]))


def test_the_limit_is_the_multiple_of_the_spread():
    budget = measure(find("seed"))
    assert budget.twins == MOST_TWINS
    assert budget.spreads[LOSS].shape == (10,)
    scale = np.ones(10)
    np.testing.assert_array_equal(budget.limit(LOSS, scale), MULTIPLE * budget.spreads[LOSS])
    assert np.all(budget.limit("nothing of the kind", scale) == 0)


def test_large_problems_get_fewer_twins():
    assert twins_for(find("tall")) == FEWEST_TWINS
    assert twins_for(find("seed")) == MOST_TWINS
    between = square_problem(x=np.zeros((5000, 3)), y=np.zeros((5000, 2)))
    assert FEWEST_TWINS < twins_for(between) < MOST_TWINS


def test_what_takes_long_is_said_beforehand(seed, monkeypatch, capsys):
    content = []
    measure(seed, notify=content.append)
    assert content == []
    monkeypatch.setattr("lockstep.harness.numerics.budget.LONG", 1e-4)
    measure(seed, notify=content.append)
    assert len(content) == 1
    assert content[0].startswith("seed float64: measuring the rounding budget with 32 twins, about ")
    assert main(["verify", "seed", "--backend", "numpy", "--dtype", "float64"]) == 3
    assert content[0].rpartition(",")[0] in capsys.readouterr().err


def test_the_deviation_holds_spread_and_drift():
    twins = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_allclose(deviation(twins, np.array([2.0, 4.0])), [1.0, 1.0])
    assert deviation(np.array([[np.nan]]), np.array([1.0])) == np.inf


def chaotic(epochs):
    """Gradient descent on (w² − 1)² at η = 0.45: with v = √1.8 w it is v ← 2.8 v − v³, a chaotic cubic map whose errors grow by e^0.8 a step."""
    return Problem(
        name="chaotic",
        x=np.ones((1, 1)),
        y=np.ones((1, 1)),
        model=(Layer("dot", size=1), Layer("square")),
        loss=Loss("squared_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=0.45),
        epochs=epochs,
        initial={"0.dot/w": np.full((1, 1), 0.3)},
    )


def test_chaos_is_inconclusive_and_says_from_where():
    few = lockstep.verify(chaotic(3), backends=["numpy", "torch"], dtypes=["float64"])
    assert few.verdict is Verdict.AGREE
    many = lockstep.verify(chaotic(200), backends=["numpy", "torch"], dtypes=["float64"])
    assert many.verdict is Verdict.INCONCLUSIVE
    assert "rounding alone is so large from epoch" in many.census()
    grows = re.search(r"nothing could be caught; it grows ([\d.]+) times an epoch", many.census())
    assert float(grows[1]) == pytest.approx(np.exp(0.8), rel=0.25)


def test_a_parameter_that_nothing_touches_must_be_the_same_to_the_bit():
    """Behind a relu that is never open the gradient is 0 and so is the spread."""
    problem = square_problem(
        model=(Layer("dot", size=3), Layer("relu"), Layer("dot", size=2), Layer("add")),
        initial={
            "0.dot/w": -np.ones((3, 3)),
            "2.dot/w": np.ones((3, 2)),
            "3.add/b": np.ones(2),
        },
        x=np.ones((12, 3)),
    )
    budget = measure(problem)
    assert budget.spreads["0.dot/w"] == 0
    assert budget.spreads["3.add/b"] > 0
    assert lockstep.verify(problem, dtypes=["float64"]).verdict is Verdict.AGREE

    class OneUlp(StepwiseTrainer):
        def read(self, state):
            snapshot = super().read(state)
            snapshot.parameters["0.dot/w"][0, 0] = np.nextafter(-1, 0)
            return snapshot

    other = NumPyBackend()
    other.name, other.trainer = "other", OneUlp
    assert lockstep.verify(problem, backends=["numpy", other], dtypes=["float64"]).verdict is Verdict.DIFFER


def test_a_reference_that_diverges_is_no_agreement():
    problem = square_problem(optimizer=Optimizer("sgd", learning_rate=1e6), epochs=400)
    result = lockstep.verify(problem, dtypes=["float64"])
    assert result.verdict is Verdict.ERROR
    assert "both sides diverged" in result.census()


def test_one_side_that_is_not_finite_differs_however_wide_the_budget():
    class Lost(StepwiseTrainer):
        def fit(self, *given):
            trace = super().fit(*given)
            trace.losses[-1] = np.nan
            return trace

    other = NumPyBackend()
    other.name, other.trainer = "other", Lost
    result = lockstep.verify(chaotic(200), backends=["numpy", other], dtypes=["float64"])
    assert result.verdict is Verdict.DIFFER


def test_a_tolerance_of_an_unknown_kind_is_refused():
    with pytest.raises(ToleranceError, match="unknown kind of tolerance"):
        lockstep.verify("seed", tolerance="loose")
