"""Penalties: part of loss and gradient, against torch's autograd and coupled weight decay, and what is refused."""

import numpy as np
import pytest
import torch

from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.ops import PENALTIES
from lockstep.backends.problem import Layer, Loss, Optimizer, Penalty
from lockstep.backends.protocol import LOSSES_ONLY, STAGES, Recording
from lockstep.harness.problems import catalogue, find
from tests.conftest import square_problem

L1, L2 = Penalty("l1", weight=0.3), Penalty("l2", weight=0.2, parameters="all")


def observed(backend, problem):
    trainer = backend.trainer(problem)
    return trainer.observe(trainer.init(), next(iter(problem.batches())), STAGES)


def final(backend, problem):
    trainer = backend.trainer(problem)
    return trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).final.parameters


def test_every_penalty_is_in_the_catalogue():
    assert {penalty.name for name in catalogue() for penalty in find(name).penalties} == set(PENALTIES)


def test_autograd_has_these_values_and_gradients(backend, dtype):
    """Beside the unpenalised step: the loss grows by both, weights' gradients by both, biases' by L2's alone."""
    problem = square_problem(dtype=dtype)
    plain = observed(backend, problem)
    found = observed(backend, problem.replace(penalties=(L1, L2)))
    eps = 8 * float(np.finfo(dtype).eps)
    total = plain["loss"]
    for name, value in problem.initial_parameters().items():
        w = torch.tensor(value, requires_grad=True)
        added = 0.1 * (w**2).sum()
        if name.endswith("/w"):
            added = added + 0.3 * w.abs().sum()
        added.backward()
        total = total + added.detach().numpy()
        expected = plain[f"gradient/{name}"] + w.grad.numpy()
        np.testing.assert_allclose(found[f"gradient/{name}"], expected, rtol=eps, atol=eps)
    np.testing.assert_allclose(found["loss"], total, rtol=eps)
    for stage in plain:
        if stage.startswith(("forward", "cotangent")):
            np.testing.assert_array_equal(found[stage], plain[stage])


def test_the_derivative_of_l1_at_zero_is_zero(backend):
    problem = square_problem()
    zeros = {name: np.zeros_like(value) for name, value in problem.initial.items()}
    stages = [
        observed(backend, problem.replace(initial=zeros, penalties=penalties))
        for penalties in ((), (Penalty("l1", weight=7.0, parameters="all"),))
    ]
    for name in problem.parameter_shapes:
        np.testing.assert_array_equal(stages[0][f"gradient/{name}"], stages[1][f"gradient/{name}"])


def test_l2_is_coupled_weight_decay_under_gradient_descent(backend):
    problem = square_problem(epochs=50)
    decayed = problem.replace(optimizer=Optimizer("sgd", learning_rate=0.05, weight_decay=0.2))
    left, right = final(backend, problem.replace(penalties=(L2,))), final(backend, decayed)
    plain = final(backend, problem)
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=4e-15)
        assert np.abs(left[name] - plain[name]).max() > 1e-2


def test_the_reported_loss_is_the_penalised_one(backend):
    problem = square_problem(penalties=(L1, L2))
    trainer = backend.trainer(problem)
    batch = next(iter(problem.batches()))
    expected = trainer.observe(trainer.init(), batch, ["loss"])["loss"]
    np.testing.assert_allclose(trainer.step(trainer.init(), batch)[1], expected, rtol=1e-15)
    np.testing.assert_allclose(trainer.gradients(trainer.init(), batch)[1], expected, rtol=1e-15)
    trace = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY)
    np.testing.assert_allclose(trace.losses[0], expected, rtol=1e-15)


def test_the_lasso_crosses_zero_and_finds_the_sparse_truth():
    from lockstep import backends

    problem = find("lasso")
    trainer = backends.load("numpy").trainer(problem)
    weights = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True)).parameters
    w = weights["0.linear/w"][..., 0]
    crossings = (np.diff(np.sign(w), axis=0) != 0).sum(axis=0)
    assert (crossings[2:] > 10).all()
    assert np.abs(w[-1, 2:]).max() < 0.02 < 1.5 < np.abs(w[-1, :2]).min()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Penalty("l1"), "lacks 'weight'"),
        (lambda: Penalty("l1", weight=-0.1), "weight is out of range\n.*-0.1\n.*a float >= 0"),
        (lambda: Penalty("l3", weight=1.0), "unknown penalty"),
        (lambda: Penalty("l2", weight=1.0, parameters="biases"), "one of 'weights', 'all'"),
        (lambda: square_problem(penalties=("l1",)), r"the penalty has the wrong type.*\n.*\n.*Penalty\(name"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(LockstepError, match=words):
        make()


def test_a_penalty_of_nothing_is_refused():
    with pytest.raises(ProblemError, match=r"is of no parameter\n.*0.add/b \(3,\)\n.*parameters='all'"):
        square_problem(
            y=np.ones((12, 3)),
            model=(Layer("add"),),
            loss=Loss("squared_error"),
            initial={"0.add/b": np.zeros(3)},
            penalties=(L1,),
        )
