"""Which explanations are confirmed: how long they must hold, and how closely.

The suspect is a copy of the NumPy backend whose gradients are twice as large; what else it does decides whether that
explains it. `README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.problem import Batching, Optimizer
from tests.conftest import square_problem
from tests.judge.test_budget_bounds import chaotic
from tests.meta.faults import Broken
from tests.meta.stepwise import StepwiseTrainer

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


def explained(factor, problem):
    """The explanation of a backend whose gradients are larger by `factor`, a function of the epoch."""

    class Suspect(StepwiseTrainer):
        def apply(self, state, grads):
            grads = {name: (factor(state.step) * one).astype(one.dtype) for name, one in grads.items()}
            return super().apply(state, grads)

    found = lockstep.diagnose(problem, Broken(Suspect), others=())
    assert found.verdict is Verdict.DIFFER, found.sentence
    return found.explanation and found.explanation.name


@pytest.mark.parametrize(("later", "name"), [(9, None), (13, "constant ratio")])
def test_an_explanation_must_hold_for_ten_epochs_past_the_first_difference(later, name):
    """Half as large again from a later epoch on: within ten epochs that is found, and beyond is not looked for."""
    problem = square_problem(epochs=60)
    assert explained(lambda epoch: 3.0 if epoch >= later else 2.0, problem) == name


@pytest.mark.parametrize(("later", "name"), [(19, None), (25, "constant ratio")])
def test_epochs_are_counted_and_not_steps(later, name):
    """Two batches an epoch: ten epochs are twenty steps."""
    problem = square_problem(epochs=40, batching=Batching(size=6))
    assert explained(lambda step: 3.0 if step >= later else 2.0, problem) == name


@pytest.mark.parametrize(
    ("dtype", "units", "name"),
    [
        ("float64", 90, "constant ratio"),
        ("float64", 600, None),
        ("float32", 150, "constant ratio"),
        ("float32", 600, None),
    ],
)
def test_an_explanation_must_hold_up_to_rounding(units, name, dtype):
    """Beside twice the gradient there is a second difference: one as rounding makes it in ten epochs, or several times that."""
    problem = square_problem(epochs=60, dtype=dtype)
    assert explained(lambda epoch: 2.0 * (1 + units * EPS[dtype]), problem) == name


@pytest.mark.parametrize(("first", "name"), [(0, "constant ratio"), (20, None)])
def test_a_difference_that_begins_later_is_looked_at_where_it_begins(first, name):
    """From the twentieth epoch on the gradients are twice as large: never is that said of the whole run."""
    problem = square_problem(epochs=60)
    assert explained(lambda epoch: 2.0 if epoch >= first else 1.0, problem) == name


def test_a_run_that_diverges_is_explained_by_the_epochs_before():
    """Twice the gradient makes this descent diverge; it is judged by the epochs that are finite."""
    problem = square_problem(epochs=400, optimizer=Optimizer("sgd", learning_rate=0.35))
    assert explained(lambda epoch: 2.0, problem) == "constant ratio"


def test_where_rounding_grows_an_explanation_may_be_off_by_more():
    """In a chaotic run: the second difference is grown ten thousand times within the epochs that are looked at."""
    assert explained(lambda epoch: 0.5 * (1 + 2 * EPS["float64"]), chaotic(40)) == "constant ratio"
    assert explained(lambda epoch: 0.5 * (1 + 1e-6), chaotic(40)) is None
