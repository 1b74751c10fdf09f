"""Explanations: each is confirmed of a backend that makes the mistake, and none of one that makes another."""

import functools
import itertools

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import Batching, Clip, Loss, Optimizer, Penalty, Schedule
from lockstep.harness.diagnose import explain as module
from lockstep.harness.diagnose.explain import explain
from lockstep.harness.diagnose.explanations import EXPLANATIONS, Explanation, variants_of
from lockstep.harness.numerics.growth import course
from lockstep.harness.runs.continuation import train
from lockstep.harness.runs.variant import Variant, train_variant
from tests.conftest import square_problem
from tests.meta.faults import Broken, LearningRateOff

EVERYTHING = square_problem(
    batching=Batching(size=5, shuffle=1),
    schedule=Schedule("exponential", factor=0.9),
    penalties=(Penalty("l1", weight=0.01),),
    clip=Clip("norm", limit=0.5),
    accumulation=2,
    optimizer=Optimizer("sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
)


def square(name, **args):
    return square_problem(optimizer=Optimizer(name, learning_rate=0.01, **args))


PROBLEMS = [
    EVERYTHING,
    square("sgd", momentum=0.9),
    square("sgd", momentum=0.9, dampening=0.5).replace(schedule=Schedule("step", steps=3, factor=0.1)),
    square("adam", epsilon=1e-3, weight_decay=0.1).replace(
        schedule=Schedule("piecewise", boundaries=[2, 4], factors=[0.5, 0.1])
    ),
    square("adam", epsilon=1e-3, amsgrad=True),
    square("adamw", epsilon=1e-4, epsilon_root=1e-3),
    square("rmsprop", epsilon=1e-3, momentum=0.9, centered=True).replace(
        schedule=Schedule("exponential", factor=0.9)
    ),
    square("radam", beta2=0.9, epsilon=1e-3),
    square("adagrad").replace(
        loss=Loss("half_squared_error", reduction="sum"), clip=Clip("value", limit=0.1)
    ),
]


class Mistaken(NumPyBackend):
    """Trains a variant, by `fit` alone."""

    name = "mistaken"

    def __init__(self, explanation, place):
        self._explanation, self._place = explanation, place

    def trainer(self, problem):
        initial = {name: np.asarray(value).T for name, value in problem.initial_parameters().items()}
        usable = {
            name: value if value.shape == problem.initial[name].shape else problem.initial[name]
            for name, value in initial.items()
        }
        variants = variants_of(self._explanation, problem, usable)
        variant = next(itertools.islice(variants, self._place, None))
        trainer = NumPyTrainer(variant.problem)
        trainer.fit = lambda state, batches, recording: train_variant(variant, NumPyTrainer(variant.problem))
        return trainer


def cases():
    """Every variant of every explanation on every problem; all but the first of each explanation are left to the sweep."""
    seen = set()
    for number, problem in enumerate(PROBLEMS):
        initial = {**problem.initial_parameters(), "0.linear/w": problem.initial["0.linear/w"].T}
        for explanation in EXPLANATIONS:
            for place, variant in enumerate(variants_of(explanation, problem, initial)):
                marks = [pytest.mark.sweep] if explanation.name in seen else []
                seen.add(explanation.name)
                name = f"{number}-{variant.does}"
                yield pytest.param(problem, explanation, place, variant.does, id=name, marks=marks)


CASES = list(cases())

ALIKE = {
    "counts its updates from one too many": {"is one step of the schedule ahead"},
    "multiplies its gradients by 2, as many as the outputs": {
        "sums the accumulated gradients instead of averaging them"
    },
    "multiplies its gradients by 24, as many as all elements": {
        "multiplies its gradients by 12, as many as the rows of a batch"
    },
    "follows the conventions of torch": {"leaves the momentum out", "has an epsilon of 1e-08"},
    "follows the conventions of optax": {
        "follows the conventions of torch",
        "leaves the momentum out",
        "has an epsilon of 1e-08",
        "adds epsilon to the corrected root",
        "trains with amsgrad_corrected (AMSGrad takes the largest v̂ instead)",
    },
}
"""Mistakes that train the same on some of these problems -> what is offered for them, which is more specific."""

WITHOUT_EFFECT = (
    "trains with first_damped",
    "trains with amsgrad",
    "trains without amsgrad",
    "follows the conventions of optax",
)
"""Switches that change nothing on some of these problems: the squares only grow, or nothing is damped."""


def test_every_explanation_is_tried_here():
    assert {case.values[1].name for case in CASES} == {one.name for one in EXPLANATIONS}


@functools.cache
def numpy():
    return backends.load("numpy")


@pytest.mark.parametrize(("problem", "explanation", "place", "does"), CASES)
def test_a_mistake_is_explained_by_itself(problem, explanation, place, does):
    found = explain(problem, numpy(), Mistaken(explanation, place), 0)
    if found is None:
        assert does.startswith(WITHOUT_EFFECT)
        altered = Mistaken(explanation, place).trainer(problem)
        ours, theirs = (course(train(problem, one)) for one in (NumPyTrainer(problem), altered))
        for name, value in ours.items():
            np.testing.assert_allclose(theirs[name], value, rtol=1e-13, atol=1e-14)
    else:
        assert found.does == does or found.does in ALIKE[does]


def test_nothing_is_offered_where_nothing_parts():
    assert explain(square_problem(), numpy(), Broken(NumPyTrainer), 0) is None


def test_nothing_is_offered_for_what_is_no_known_mistake():
    assert explain(square_problem(), numpy(), Broken(LearningRateOff), 0) is None


def test_nothing_is_confirmed_that_does_not_train_the_same(monkeypatch):
    """The right explanation, off by one part in 10¹⁰, is not offered."""
    near = Explanation("near", lambda problem, initial: iter([_scaled(problem, 1 + 2e-10)]))
    right = Explanation("right", lambda problem, initial: iter([_scaled(problem, 1 + 1e-10)]))
    monkeypatch.setattr(module, "EXPLANATIONS", (near,))
    assert explain(square_problem(), numpy(), Broken(LearningRateOff), 0) is None
    monkeypatch.setattr(module, "EXPLANATIONS", (near, right))
    assert explain(square_problem(), numpy(), Broken(LearningRateOff), 0).name == "right"


def _scaled(problem, factor):
    return Variant(
        "", problem, turn=lambda grads, previous: {name: factor * one for name, one in grads.items()}
    )


def test_a_variant_that_is_no_problem_is_left_out():
    """Accumulation over all batches of the only epoch: without the short last one there would be no update."""
    problem = square_problem(batching=Batching(size=5), accumulation=3, epochs=1)
    (dropped,) = (one for one in EXPLANATIONS if one.name == "last batch")
    assert list(variants_of(dropped, problem, problem.initial_parameters())) == []
