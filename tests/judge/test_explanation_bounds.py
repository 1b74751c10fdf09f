"""Which explanations are confirmed: how long they must hold, and how closely.

The suspect is a copy of the NumPy backend whose gradients are twice as large; what else it does decides whether that
explains it. The second difference is of one element, or of another sign at each step: no row of the table is that. `README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

import numpy as np
import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.numpy_vjp.adoption.trainer import NumPyAdopted
from lockstep.backends.problem import Batching, Layer, Optimizer
from lockstep.harness.problems.initial import draw
from lockstep.harness.verification import adopted
from tests.conftest import square_problem
from tests.judge.sides import SAME, batches, side
from tests.judge.test_budget_bounds import chaotic
from tests.meta.faults import Broken
from tests.meta.stepwise import StepwiseTrainer

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


def explained(factor, problem):
    """The explanation of a backend whose gradients are larger by `factor`, a function of the step."""
    return explained_by(lambda step, grad: factor(step) * grad, problem)


def explained_by(change, problem):
    """The explanation of a backend that changes its gradients, if it explains all of the difference."""
    found = largest(change, problem)
    return found.name if found and not found.rest else None


def largest(change, problem):
    """The explanation of a backend that changes its gradients, each by a function of the step and the gradient."""

    class Suspect(StepwiseTrainer):
        def apply(self, state, grads):
            grads = {name: change(state.step, one).astype(one.dtype) for name, one in grads.items()}
            return super().apply(state, grads)

    found = lockstep.diagnose(problem, Broken(Suspect), others=())
    assert found.verdict is Verdict.DIFFER, found.sentence
    return found.explanation


@pytest.mark.parametrize(
    ("later", "name"), [(9, None), (10, None), (11, "constant ratio"), (13, "constant ratio")]
)
def test_an_explanation_must_hold_for_ten_updates_past_the_first_difference(later, name):
    """Another change from a later update on, which no factor is: within ten updates that is found, and beyond is not looked for."""
    problem = square_problem(epochs=60)
    assert explained_by(lambda step, grad: np.cbrt(grad) if step >= later else 2.0 * grad, problem) == name


@pytest.mark.parametrize(
    ("changes", "later", "name"),
    [
        # Four batches an epoch: ten updates more are two epochs more.
        ({"batching": Batching(size=3)}, 9, None),
        ({"batching": Batching(size=3)}, 13, "constant ratio"),
        # One update of two batches: ten updates are twenty steps.
        ({"batching": Batching(size=6), "accumulation": 2}, 19, None),
        ({"batching": Batching(size=6), "accumulation": 2}, 25, "accumulation"),
    ],
)
def test_updates_are_counted_and_neither_epochs_nor_steps(changes, later, name):
    problem = square_problem(epochs=40, **changes)
    assert explained_by(lambda step, grad: np.cbrt(grad) if step >= later else 2.0 * grad, problem) == name


@pytest.mark.parametrize(
    ("dtype", "units", "name"),
    [
        ("float64", 150, "constant ratio"),
        ("float64", 1_200, None),
        ("float32", 150, "constant ratio"),
        ("float32", 1_200, None),
    ],
)
def test_an_explanation_must_hold_up_to_rounding(units, name, dtype):
    """Beside twice the gradient, one element is off: as by rounding in ten updates, or by several times that."""

    def change(step, grad):
        grad = 2 * grad
        grad.flat[0] *= 1 + units * EPS[dtype]
        return grad

    assert explained_by(change, square_problem(epochs=60, dtype=dtype)) == name


@pytest.mark.parametrize(("first", "name"), [(0, "constant ratio"), (20, "learning rate")])
def test_a_difference_that_begins_later_is_looked_at_where_it_begins(first, name):
    """From the twentieth epoch on the gradients are twice as large, as another schedule has it: never is that said of the whole run."""
    problem = square_problem(epochs=60)
    assert explained(lambda epoch: 2.0 if epoch >= first else 1.0, problem) == name


def test_a_run_that_diverges_is_explained_by_the_epochs_before():
    """Twice the gradient makes this descent diverge; it is judged by the epochs that are finite."""
    problem = square_problem(epochs=400, optimizer=Optimizer("sgd", learning_rate=0.35))
    assert explained(lambda epoch: 2.0, problem) == "constant ratio"


@pytest.mark.parametrize(("later", "name"), [(2, None), (3, "learning rate")])
def test_what_overflows_is_judged_up_to_the_step_before(later, name):
    """Each update is 1e39 times as large as the one before: the fifth loss overflows, by what the fourth update did."""

    model = (Layer("dot", size=2),)
    problem = square_problem(epochs=20, model=model, initial=draw(model, (3,), seed=1))

    def change(step, grad):
        return 1e40 * (np.sign(grad) * np.abs(grad).max() if step >= later else grad)

    assert explained_by(change, problem) == name


def unsteady(factor, share):
    """Gradients that are larger by a factor, up by a share at one step and down at the next: no one ratio is that."""
    return lambda step, grad: factor * (1 + share * (-1) ** step) * grad


@pytest.mark.parametrize(
    ("dtype", "share", "name"),
    [
        ("float64", 2e-11, "constant ratio"),
        ("float64", 1e-10, None),
        ("float32", 8e-3, "constant ratio"),
        ("float32", 2.5e-2, None),
    ],
)
def test_where_rounding_grows_an_explanation_may_be_off_by_more(dtype, share, name):
    """In a chaotic run one eps is grown five thousand times within the updates that are looked at, and 45 are allowed.

    Half its gradient makes the suspect calm, so that its second difference stays as large as it is.
    """
    assert explained_by(unsteady(0.5, share), chaotic(40).replace(dtype=dtype)) == name


@pytest.mark.parametrize(
    ("dtype", "steps", "share", "name"),
    [
        ("float64", 16, 2.3e-16, "constant ratio"),
        ("float64", 16, 3e-15, None),
        ("float32", 5, 1e-6, "constant ratio"),
        ("float32", 5, 5e-6, None),
    ],
)
def test_a_change_that_magnifies_rounding_may_excuse_a_part_in_a_billion(dtype, steps, share, name):
    """The witness is calm and twice its gradient is chaotic: what that makes of a share counts, up to 1e-9 or 1e-4 of a value.

    Rounding itself would allow more: 45 units that grow 2.2 times a step are 3e-9 after 16 steps, and 3e-4 after 5.
    """
    calm = chaotic(1).replace(
        dtype=dtype,
        x=np.ones((steps, 1)),
        y=np.ones((steps, 1)),
        batching=Batching(size=1),
        optimizer=Optimizer("sgd", learning_rate=0.225),
    )
    assert explained_by(unsteady(2.0, share), calm) == name


@pytest.mark.parametrize(("share", "named"), [(3e-4, True), (5e-4, False)])
def test_the_largest_cause_is_named_where_a_thousandth_is_left(share, named):
    """Twice the gradient, and each element up or down by a share of it: 8e-4 and 1.4e-3 of the distance are left."""

    def change(step, grad):
        signs = np.random.default_rng(step).choice((-1, 1), grad.shape)
        return 2 * grad * (1 + share * signs)

    found = largest(change, square_problem(epochs=60))
    assert (found is not None) is named
    assert found is None or (found.name == "constant ratio" and found.rest > 0)


@pytest.mark.parametrize(("numbers", "name"), [(7, None), (8, "learning rate")])
def test_a_number_is_read_off_each_step_where_eight_move(numbers, name):
    """Of fewer, one number a step would fit whatever they do."""
    rng = np.random.default_rng(4)
    problem = square_problem(
        x=rng.standard_normal((12, numbers)),
        y=rng.standard_normal((12, 1)),
        model=(Layer("dot", size=1),),
        initial={"0.dot/w": rng.standard_normal((numbers, 1))},
        epochs=20,
    )
    assert explained(lambda step: 1 + 0.1 * (-1) ** step, problem) == name


class Clipping(NumPyAdopted):
    """Gradients of a norm above 0.1 are divided by it, and by a millionth more."""

    added = 0.0

    def apply(self, state, grads):
        norm = np.sqrt(sum(float(np.sum(one**2)) for one in grads.values()))
        scale = min(1.0, 0.1 / (norm + self.added))
        return super().apply(state, {name: scale * one for name, one in grads.items()})


class Adding(Clipping):
    added = 1e-6


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((Clipping, Adding), "by its norm plus 1e-6, where the other adds nothing"),
        ((Adding, Clipping), "by its norm, where the other adds 1e-6 to the norm"),
    ],
)
def test_what_only_the_suspect_adds_is_confirmed_by_a_run_of_its_own(kinds, words):
    sides = [side(kind=kind) for kind in kinds]
    (case,) = adopted.verify(sides, batches(12), mapping=SAME, diagnose="all").cases
    found = case.diagnoses[0].explanation
    assert found is not None
    assert found.rest == 0
    assert words in found.description
