"""Every optimizer and variant: state that travels, agreement across backends, and the frameworks called directly."""

import jax
import numpy as np
import optax
import pytest
import torch

import backends
from backends.errors import ProblemError
from backends.numpy_vjp.optimizers import OPTIMIZERS as OURS
from backends.numpy_vjp.optimizers import update_params
from backends.ops import OPTIMIZERS
from backends.problem import Optimizer
from backends.protocol import LOSSES_ONLY
from harness.problems import find
from harness.problems.optimizers import VARIANTS
from tests.conftest import BACKENDS, advance


def assert_same(left, right):
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


def test_every_optimizer_is_in_the_catalogue():
    assert {optimizer for optimizer, _, _ in VARIANTS.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_snapshot_holds_all_that_the_next_step_needs(backend, name, at):
    problem = find(name)
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    snapshot = trainer.read(advance(trainer, trainer.init(), batch, at))
    slots = {key.partition("/")[0] for key in snapshot.optimizer}
    assert slots == set(problem.optimizer.state)
    straight = trainer.read(advance(trainer, trainer.init(), batch, at + 3))
    resumed = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 3))
    assert resumed.step == straight.step == at + 3
    assert_same(resumed.parameters, straight.parameters)
    assert_same(resumed.optimizer, straight.optimizer)


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("name", VARIANTS)
def test_canonical_states_agree_across_backends(name, steps):
    """Names, units and what exists before the first step are the registry's, whatever the framework keeps."""
    problem = find(name)
    batch = next(iter(problem.batches()))
    found = []
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(problem)
        found.append(trainer.read(advance(trainer, trainer.init(), batch, steps)).optimizer)
    for other in found[1:]:
        assert list(other) == list(found[0])
        for key, expected in found[0].items():
            scale = max(np.abs(expected).max(), 1e-8)
            np.testing.assert_allclose(other[key], expected, rtol=0, atol=1e-13 * scale, err_msg=key)


@pytest.mark.parametrize("name", VARIANTS)
def test_one_backends_state_continues_on_another(name):
    """A snapshot taken anywhere trains on everywhere: the canonical state is complete and means the same."""
    problem = find(name)
    batch = next(iter(problem.batches()))
    source = backends.load("numpy").trainer(problem)
    snapshot = source.read(advance(source, source.init(), batch, 4))
    expected = source.read(advance(source, source.write(source.init(), snapshot), batch, 4)).parameters
    for backend in set(BACKENDS) - {"numpy"}:
        trainer = backends.load(backend).trainer(problem)
        found = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 4)).parameters
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-13 * np.abs(value).max())


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop-centered"])
def test_fit_carries_the_state_that_steps_carry(backend, name):
    problem = find(name).replace(epochs=6)
    trainer = backend.trainer(problem)
    fitted = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).final
    stepped = trainer.read(advance(trainer, trainer.init(), next(iter(problem.batches())), 6))
    assert fitted.step == stepped.step
    for key, value in {**stepped.parameters, **stepped.optimizer}.items():
        found = {**fitted.parameters, **fitted.optimizer}[key]
        np.testing.assert_allclose(found, value, rtol=0, atol=1e-13 * max(np.abs(value).max(), 1e-8))


X = np.random.default_rng(0).standard_normal((20, 4))
Y = X @ np.array([1.0, -2.0, 3.0, 0.5]) + 0.1
START = np.array([0.3, -0.1, 0.2, 0.7])


def trained(name, steps=100, **args):
    """Our NumPy optimizer on least squares, its gradient written out: nothing of a framework."""
    transform = OURS[name](Optimizer(name, **{"learning_rate": 1e-2, **args}).args, lambda t: 1.0)
    params = {"w": START}
    state = transform.init(params)
    for step in range(1, steps + 1):
        grads = {"w": 2 * X.T @ (X @ params["w"] - Y) / len(Y)}
        updates, state = transform.update(grads, state, params, step)
        params = update_params(updates, params)
    return params["w"]


def trained_by_torch(optimizer, **options):
    """Plain torch.optim on the same, as its documentation shows it; default arguments but the rate."""
    w = torch.tensor(START, requires_grad=True)
    made = optimizer([w], **{"lr": 1e-2, **options})
    x, y = torch.tensor(X), torch.tensor(Y)
    for _ in range(100):
        made.zero_grad()
        ((x @ w - y) ** 2).mean().backward()
        made.step()
    return w.detach().numpy()


@pytest.mark.parametrize(
    ("name", "optimizer", "ours", "theirs"),
    [
        ("sgd", torch.optim.SGD, {}, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "dampening": 0.3}),
        ("adagrad", torch.optim.Adagrad, {}, {}),
        ("adadelta", torch.optim.Adadelta, {"learning_rate": 1.0}, {"lr": 1.0}),
        ("rmsprop", torch.optim.RMSprop, {}, {}),
        ("adam", torch.optim.Adam, {}, {}),
        ("adam", torch.optim.Adam, {"amsgrad": True}, {"amsgrad": True}),
        ("adamw", torch.optim.AdamW, {}, {}),
        ("adamax", torch.optim.Adamax, {}, {}),
    ],
)
def test_our_defaults_are_plain_torchs(name, optimizer, ours, theirs):
    found, expected = trained(name, **ours), trained_by_torch(optimizer, **theirs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "transform", "ours"),
    [
        ("sgd", optax.sgd(1e-2, 0.9, nesterov=True), {"momentum": 0.9, "nesterov": True}),
        ("adam", optax.adam(1e-2), {}),
        ("adamw", optax.adamw(1e-2), {"weight_decay": 1e-4}),
        ("adamax", optax.adamax(1e-2), {}),
        ("adadelta", optax.adadelta(1.0), {"learning_rate": 1.0}),
        ("lion", optax.lion(1e-2), {"weight_decay": 1e-3}),
    ],
)
def test_plain_optax_is_reached_by_arguments(name, transform, ours):
    with jax.enable_x64(True):
        x, y, w = (jax.numpy.asarray(value) for value in (X, Y, START))
        state = transform.init(w)
        grad = jax.jit(jax.grad(lambda w: jax.numpy.mean((x @ w - y) ** 2)))
        for _ in range(100):
            updates, state = transform.update(grad(w), state, w)
            w = optax.apply_updates(w, updates)
        expected = np.asarray(w)
    np.testing.assert_allclose(trained(name, **ours), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(ProblemError, match="nesterov needs a momentum above 0 and no dampening"):
        Optimizer("sgd", learning_rate=0.1, nesterov=True)
    with pytest.raises(ProblemError, match="do not go together"):
        Optimizer("sgd", learning_rate=0.1, nesterov=True, momentum=0.9, dampening=0.1)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"amsgrad": 1}, "amsgrad"),
    ],
)
def test_ranges_are_checked_with_the_fields_name(args, field):
    with pytest.raises(ProblemError, match=f"optimizer 'adam': {field}"):
        Optimizer("adam", learning_rate=0.1, **args)
