"""The kernels that NumPy's `fit` runs where it can: the same training as the chain's, whatever the blocks."""

import itertools

import numpy as np
import pytest

from lockstep.backends.numpy_vjp import fused as fused_module
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.numpy_vjp.fused import Fused, can_fuse, rows_in
from lockstep.backends.numpy_vjp.kernels import KERNELS, LOSSES
from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import (
    Average,
    Batching,
    Clip,
    Layer,
    Loss,
    Optimizer,
    Penalty,
    Schedule,
)
from lockstep.backends.protocol import LOSSES_ONLY, Recording
from lockstep.harness.problems import catalogue, find
from lockstep.harness.problems.initial import draw
from lockstep.harness.runs.free_run import StepByStep
from tests.conftest import advance, square_problem

MODELS = {
    "linear": (Layer("linear", size=2),),
    "parts": (Layer("dot", size=3), Layer("add"), Layer("dot", size=2)),
    "relu": (Layer("linear", size=5), Layer("relu"), Layer("linear", size=2)),
    "tanh": (
        Layer("linear", size=5),
        Layer("tanh"),
        Layer("linear", size=4),
        Layer("tanh"),
        Layer("dot", size=2),
    ),
    "added after": (Layer("linear", size=2), Layer("tanh"), Layer("add"), Layer("relu"), Layer("add")),
    "first": (Layer("add"), Layer("tanh"), Layer("linear", size=2)),
}


def problem_of(model, loss="squared_error", reduction="sum", rows=37, **changes):
    rng = np.random.default_rng(5)
    layers = MODELS[model]
    return square_problem(
        x=rng.standard_normal((rows, 3)),
        y=rng.standard_normal((rows, 2)),
        model=layers,
        loss=Loss(loss, reduction=reduction),
        initial=draw(layers, (3,), 2),
        **{"optimizer": Optimizer("sgd", learning_rate=0.001), **changes},
    )


def chain_gradients(problem):
    trainer = NumPyBackend().trainer(problem)
    _, loss, grads = trainer.gradients(trainer.init(), next(iter(problem.batches())))
    return loss, grads


@pytest.mark.parametrize("block", [1, 2_000, 1 << 20])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("loss", "reduction"), list(itertools.product(LOSSES, ("sum", "mean"))))
def test_loss_and_gradients_are_the_chains_whatever_the_block(model, loss, reduction, block, dtype):
    problem = problem_of(model, loss, reduction).replace(dtype=dtype)
    assert can_fuse(problem)
    batches, parameters = problem.batches(), problem.initial_parameters()
    fused = Fused(problem, batches.x, batches.y, parameters, block)
    x = batches.x.copy()
    expected, grads = chain_gradients(problem)
    room = 64 * float(np.finfo(dtype).eps)
    for _ in range(2):  # a second time in the same buffers
        loss, found = fused.run()
        assert loss == pytest.approx(expected, rel=room)
        for name, grad in grads.items():
            np.testing.assert_allclose(
                found[name], grad, rtol=0, atol=room * np.abs(grad).max(), err_msg=name
            )
    np.testing.assert_array_equal(batches.x, x)


def test_the_blocks_are_as_many_as_they_should_be():
    problem = problem_of("linear")
    x = problem.batches().x
    assert rows_in(1, problem, x) == 1
    assert rows_in(1 << 30, problem, x) == 37
    assert rows_in(2_000, problem, x) == 2_000 // (8 * (3 + 4 * 2))


def test_a_relu_at_its_kink_and_a_nan_are_as_in_the_chain():
    """Zeros, infinities and NaNs where the chain has them; the numbers but for the order of the sums, which is the
    BLAS' own: a kernel of another processor adds eight squares in another order, 2 ULP apart."""
    problem, room = problem_of("relu", rows=4), 64 * float(np.finfo("float64").eps)
    for x in (np.zeros((4, 3)), np.full((4, 3), np.inf)):
        moved = problem.replace(x=np.zeros((4, 3)), initial={**problem.initial, "0.linear/b": np.zeros(5)})
        batches, parameters = moved.batches(), moved.initial_parameters()
        batches.x[:] = x
        trainer = NumPyBackend().trainer(moved)
        fused = Fused(moved, batches.x, batches.y, parameters)
        with np.errstate(all="ignore"):
            loss, found = fused.run()
            _, expected, grads = trainer.gradients(trainer.init(), next(iter(batches)))
        np.testing.assert_allclose(loss, expected, rtol=room)
        for name, grad in grads.items():
            largest = np.max(np.abs(grad), initial=0, where=np.isfinite(grad))
            np.testing.assert_allclose(found[name], grad, rtol=0, atol=room * largest, err_msg=name)


RUNS = {
    "whole": {},
    "shuffled": {"batching": Batching(size=10, shuffle=3)},
    "dropped": {"batching": Batching(size=10, keep_last=False)},
    "adam": {
        "optimizer": Optimizer("adam", learning_rate=0.01),
        "schedule": Schedule("step", steps=2, factor=0.5),
    },
    "momentum": {"optimizer": Optimizer("sgd", learning_rate=0.001, momentum=0.9, nesterov=True)},
    "clipped": {"clip": Clip("norm", limit=0.5), "batching": Batching(size=8)},
}


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("model", ["linear", "tanh"])
def test_a_whole_run_is_that_of_the_steps(model, run, steps, dtype):
    """From the first state, and from a later one, so that counts and moments are carried in as well."""
    problem = problem_of(model, **RUNS[run]).replace(dtype=dtype, epochs=5)
    assert can_fuse(problem)
    trainer = NumPyBackend().trainer(problem)
    start = trainer.read(advance(trainer, trainer.init(), next(iter(problem.batches())), steps))
    found, expected = (
        fit(trainer.write(trainer.init(), start), problem.batches(), Recording(parameters=True))
        for fit in (trainer.fit, StepByStep(trainer).fit)
    )
    room = 256 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=room)
    assert found.losses.dtype == dtype
    assert found.final.step == expected.final.step == steps + len(problem.batches())
    for part in ("parameters", "optimizer"):
        ours, theirs = getattr(found.final, part), getattr(expected.final, part)
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=0, atol=room * np.abs(value).max())
    for name, value in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], value, rtol=0, atol=room * np.abs(value).max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_keeps_what_the_next_step_writes(name):
    """Its state may be the gradients themselves: then they must not be a buffer."""
    problem = problem_of("linear", optimizer=Optimizer(name, learning_rate=0.01), epochs=4)
    trainer = NumPyBackend().trainer(problem)
    found, expected = (
        fit(trainer.init(), problem.batches(), LOSSES_ONLY) for fit in (trainer.fit, StepByStep(trainer).fit)
    )
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)
    for key, value in expected.final.optimizer.items():
        np.testing.assert_allclose(
            found.final.optimizer[key], value, rtol=0, atol=1e-12 * np.abs(value).max()
        )


def test_a_run_changes_neither_the_problem_nor_the_state_it_started_from():
    problem = problem_of("tanh")
    trainer = NumPyBackend().trainer(problem)
    state = trainer.init()
    before = trainer.read(state)
    first = trainer.fit(state, problem.batches(), LOSSES_ONLY)
    again = trainer.fit(trainer.write(trainer.init(), before), problem.batches(), LOSSES_ONLY)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert first.parameters is None
    for name, value in before.parameters.items():
        np.testing.assert_array_equal(value, problem.initial_parameters()[name])
        assert (first.final.parameters[name] != value).any()


@pytest.mark.parametrize(
    "change",
    [
        {"accumulation": 2},
        {"penalties": (Penalty("l2", weight=0.1),)},
        {"average": Average("ema", decay=0.9)},
        {"loss": Loss("huber")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_has_no_kernel_is_left_to_the_chain(change):
    problem = problem_of("tanh").replace(**change)
    assert not can_fuse(problem)
    trainer = NumPyBackend().trainer(problem)
    assert len(trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).losses) == problem.steps


def test_both_ways_are_taken_in_the_catalogue():
    fused = [name for name in catalogue() if can_fuse(find(name))]
    assert {"seed", "tall", "wide", "adam", "momentum"} <= set(fused)
    assert len(fused) < len(list(catalogue())) - 20
    assert set(KERNELS) <= {"dot", "add", "linear", "relu", "tanh"}


def test_a_wrong_factor_would_be_seen(monkeypatch):
    problem = problem_of("linear")
    monkeypatch.setitem(fused_module.LOSSES, "squared_error", 1 + 1e-12)
    expected, _ = chain_gradients(problem)
    batches = problem.batches()
    found, _ = Fused(problem, batches.x, batches.y, problem.initial_parameters()).run()
    assert found != pytest.approx(expected, rel=64 * np.finfo("float64").eps)
