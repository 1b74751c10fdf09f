"""The budget of the catalogue: its multiple, where it sees nothing, what is negligible, and how many twins it takes.

Spreads are measured here a second time, by other twins; the budget's own numbers are never read. `README.md` in this
folder lists the numbers, and by how much each may be off before a test here fails.
"""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Batching, Layer, Loss, Optimizer, Problem
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.numerics import budget
from lockstep.harness.numerics.budget import twins_for
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.workers import in_process
from tests.conftest import square_problem

SEED = 17
"""Of the twins here; any but the budget's own."""


def other_backend():
    other = NumPyBackend()
    other.name = "other"
    return other


def spreads_of(problem):
    """(of the losses, of the parameters): root mean squares of what 64 twins are off by."""
    trainer = NumPyBackend().trainer(problem)
    plain = StepByStep(trainer).fit(trainer.init(), problem.batches(), LOSSES_ONLY)
    twins = trainer.disturbed(problem.batches(), 64, SEED).trace

    def off(found, value):
        return np.sqrt(np.mean((found.astype(np.float64) - value) ** 2, axis=0))

    parameters = plain.final.parameters
    return off(twins.losses, plain.losses), {
        name: float(off(twins.final.parameters[name], value).max()) for name, value in parameters.items()
    }


def verified(problem, change):
    """The problem on two backends that train the same, but that `change` is made to the second one's trace."""

    def trainers(chosen, prepared):
        left, right = in_process(chosen, prepared)
        return iter([left, dataclasses.replace(right, trace=change(right.trace))])

    backends = ["numpy", other_backend()]
    return lockstep.verify(problem, backends=backends, dtypes=[problem.dtype], trainers=trainers)


def moved(value, distance):
    """The value, its largest element further by a distance, in the value's dtype."""
    out = value.copy()
    place = np.abs(out).argmax()
    out.flat[place] = np.float64(out.flat[place]) + distance
    return out


# Right implementations came to 9.8 spreads once: 12 must pass. 64 are no rounding: twice what is allowed.
SHARES = [(12, Verdict.AGREE), (64, Verdict.DIFFER)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("share", "verdict"), SHARES)
def test_twelve_spreads_of_a_loss_pass_and_sixty_four_do_not(share, verdict, dtype):
    problem = square_problem(dtype=dtype)
    losses, _ = spreads_of(problem)

    def change(trace):
        further = trace.losses.copy()
        further[3] = np.float64(further[3]) + share * losses[3]
        return dataclasses.replace(trace, losses=further)

    result = verified(problem, change)
    assert result.verdict is verdict, result.census()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("share", "verdict"), SHARES)
@pytest.mark.parametrize("name", ["0.linear/w", "2.add/b"])
def test_twelve_spreads_of_a_parameter_pass_and_sixty_four_do_not(name, share, verdict, dtype):
    problem = square_problem(dtype=dtype)
    _, parameters = spreads_of(problem)

    def change(trace):
        ends = trace.final.parameters
        ends = {**ends, name: moved(ends[name], share * parameters[name])}
        return dataclasses.replace(trace, final=dataclasses.replace(trace.final, parameters=ends))

    result = verified(problem, change)
    assert result.verdict is verdict, result.census()


def chaotic(epochs):
    """Gradient descent on (w² − 1)² at η = 0.45, a chaotic map: its rounding grows by e^0.8 = 2.2 times a step."""
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


def widest(problem):
    """The largest of 32 spreads of a loss, over the larger of that loss and the first."""
    spread, _ = spreads_of(problem)
    trainer = NumPyBackend().trainer(problem)
    losses = np.abs(trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).losses)
    return float(np.max(32 * spread / np.maximum(losses, losses[0])))


@pytest.mark.parametrize(
    ("epochs", "from_", "to", "verdict"),
    [(35, 2e-3, 7e-3, Verdict.AGREE), (38, 2e-2, 9e-2, Verdict.INCONCLUSIVE)],
)
def test_what_may_hide_a_hundredth_of_a_value_is_not_agreement(epochs, from_, to, verdict):
    """Two runs that are equal to the bit, once where rounding may do up to 0.7 % and once where it may do 2 % or more."""
    problem = chaotic(epochs)
    assert from_ < widest(problem) < to
    result = verified(problem, lambda trace: trace)
    assert result.verdict is verdict, result.census()
    if verdict is Verdict.INCONCLUSIVE:
        assert "that nothing could be caught" in result.census()


def balanced(size, dtype="float64"):
    """A bias that should stay 0, for its targets are ±size; only their rounding moves it. The weight beside it comes to 1."""
    return Problem(
        name="balanced",
        dtype=dtype,
        x=np.array([[0.0], [0.0], [0.0], [0.0], [1.0], [-1.0]]),
        y=np.array([[size], [-size], [0.3 * size], [-0.3 * size], [1.0], [-1.0]]),
        model=(Layer("linear", size=1),),
        loss=Loss("squared_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=0.1),
        epochs=20,
        initial={"0.linear/w": np.full((1, 1), 1.25), "0.linear/b": np.zeros(1)},
    )


@pytest.mark.parametrize(
    ("dtype", "size", "from_", "to", "verdict"),
    [
        ("float64", 2e4, 2e-9, 1.2e-8, Verdict.AGREE),
        ("float64", 1.2e5, 2e-8, 1.2e-7, Verdict.INCONCLUSIVE),
        ("float32", 1.0, 5e-5, 3e-4, Verdict.AGREE),
        ("float32", 6.0, 4.5e-4, 3e-3, Verdict.INCONCLUSIVE),
    ],
)
def test_a_leaf_that_is_rounding_alone_is_judged_by_the_root_of_eps(dtype, size, from_, to, verdict):
    """What rounding may do to it, times a hundred, is below √eps of the largest parameter, or above that.

    √eps is 1.5e-8 and 3.5e-4. `from_` and `to` say between what it lies here.
    """
    problem = balanced(size, dtype)
    _, spreads = spreads_of(problem)
    assert from_ < 100 * 32 * spreads["0.linear/b"] < to
    result = verified(problem, lambda trace: trace)
    found = {one.quantity: one.verdict for one in result.comparisons}
    # Where it is that and nothing else, it is listed as not judged.
    found |= {name: Verdict.INCONCLUSIVE for one in result.cases[0].left_out for name in one.names}
    assert found["0.linear/b"] is verdict, result.census()
    assert found["0.linear/w"] is Verdict.AGREE


@pytest.mark.parametrize(
    ("numbers", "twins"),
    [(1, 32), (6_144, 32), (6_600, 29), (12_288, 16), (39_000, 5), (49_152, 4), (1_000_000, 4)],
)
def test_twins_get_fewer_as_problems_get_larger(numbers, twins):
    """All 32 up to 6,144 numbers at once, 4 from 49,152 on: of fewer, a spread is too small by chance."""
    problem = square_problem(
        x=np.zeros((numbers, 1)),
        y=np.zeros((numbers, 1)),
        model=(Layer("dot", size=1),),
        initial={"0.dot/w": np.ones((1, 1))},
    )
    assert twins_for(problem) == twins


def dot(rows, columns, size, **changes):
    return square_problem(
        x=np.zeros((rows, columns)),
        y=np.zeros((rows, size)),
        model=(Layer("dot", size=size),),
        initial={"0.dot/w": np.ones((columns, size))},
        **changes,
    )


@pytest.mark.parametrize(
    ("problem", "twins"),
    [
        (dot(64, 192, 1), 16),  # the widest is what goes in,
        (dot(64, 1, 192), 16),  # or what comes out;
        (dot(2, 96, 128), 16),  # or there are more parameters than either
        (dot(1024, 12, 1, batching=Batching(size=64)), 32),  # and a batch counts, not all rows
    ],
)
def test_the_largest_of_rows_activations_and_parameters_counts(problem, twins):
    assert twins_for(problem) == twins


def test_a_budget_says_how_many_twins_it_was_measured_with():
    result = lockstep.verify(square_problem(), backends=["numpy"], dtypes=["float64"])
    assert "32 disturbed twins" in result.cases[0].tolerance.source


@pytest.mark.parametrize(
    ("epochs", "seconds"),
    [
        (20, 160),  # one twin is timed: eight of them in twenty epochs
        (21, 21),  # all eight are
    ],
)
def test_a_forecast_is_of_all_twins_in_all_epochs(epochs, seconds, monkeypatch):
    """By a clock that goes a second further each time it is looked at."""
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    notified = []
    budget.measure(square_problem(epochs=epochs), twins=8, notify=notified.append)
    assert [one.rpartition("about ")[2] for one in notified] == [f"{seconds} s"]
