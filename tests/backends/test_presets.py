"""Presets: each is its framework's own default, called directly, and every backend trains it."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import lockstep
from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.jax_haiku.transforms import power_decay
from lockstep.backends.numpy_vjp.optimizers import OPTIMIZERS as OURS
from lockstep.backends.numpy_vjp.optimizers import update_params
from lockstep.backends.ops import CLIPS, FUNCTIONS, LOSSES, OPTIMIZERS, SCHEDULES, checked_args
from lockstep.backends.problem import Clip, Layer, Loss, Optimizer
from lockstep.harness.problems.families.optimizers import network

rng = np.random.default_rng(0)
X = rng.standard_normal((20, 4))
Y = X @ rng.standard_normal((4, 3)) + 0.1
START = rng.standard_normal((4, 3))


def trained(name, steps=100, **args):
    """Our NumPy optimizer on least squares, its gradient written out: nothing of a framework."""
    transform = OURS[name](Optimizer(name, **args).args, lambda t: 1.0)
    params = {"w": START}
    state = transform.init(params)
    for step in range(1, steps + 1):
        grads = {"w": 2 * X.T @ (X @ params["w"] - Y) / Y.size}
        updates, state = transform.update(grads, state, params, step)
        params = update_params(updates, params)
    return params["w"]


def trained_by_torch(optimizer, **options):
    """Plain torch.optim on the same, as its documentation shows it; default arguments but those given."""
    w = torch.tensor(START, requires_grad=True)
    made = optimizer([w], **options)
    x, y = torch.tensor(X), torch.tensor(Y)
    for _ in range(100):
        made.zero_grad()
        ((x @ w - y) ** 2).mean().backward()
        made.step()
    return w.detach().numpy()


def trained_by_optax(transform):
    """Plain Optax on the same."""
    with jax.enable_x64(True):
        x, y, w = (jnp.asarray(value) for value in (X, Y, START))
        state = transform.init(w)
        grad = jax.jit(jax.grad(lambda w: jnp.mean((x @ w - y) ** 2)))
        update = jax.jit(transform.update)
        for _ in range(100):
            updates, state = update(grad(w), state, w)
            w = optax.apply_updates(w, updates)
        return np.asarray(w)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


TORCH = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "adafactor": torch.optim.Adafactor,
}
OPTAX = {
    "sgd": optax.sgd,
    "adagrad": optax.adagrad,
    "adadelta": optax.adadelta,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adamax": optax.adamax,
    "nadam": optax.nadam,
    "radam": optax.radam,
    "rprop": optax.rprop,
    "adafactor": optax.adafactor,
    "lion": optax.lion,
}
SINGLE = {
    "torch nadam": "torch keeps the product of the momenta in float32: 2.0e-11 of the largest parameter",
    "optax adafactor": "optax forms t^-c in float32, also under x64: 1.5e-9 of the largest parameter",
}
"""Where a framework keeps a float32 scalar inside, and what it costs."""


def rows(framework, table):
    for name, member in table.items():
        reason = SINGLE.get(f"{framework} {name}")
        marks = [pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)] if reason else []
        yield pytest.param(name, member, id=name, marks=marks)


def test_every_preset_is_compared_with_its_framework():
    found = {
        framework: {name for name, rule in OPTIMIZERS.items() if framework in rule.presets}
        for framework in ("torch", "optax")
    }
    assert found == {"torch": set(TORCH), "optax": set(OPTAX)}


@pytest.mark.parametrize(("name", "optimizer"), list(rows("torch", TORCH)))
def test_preset_torch_is_plain_torch(name, optimizer):
    assert_close(trained(name, preset="torch"), trained_by_torch(optimizer))


@pytest.mark.parametrize(("name", "transform"), list(rows("optax", OPTAX)))
def test_preset_optax_is_plain_optax(name, transform):
    assert_close(trained(name, preset="optax", learning_rate=1e-2), trained_by_optax(transform(1e-2)))


def test_without_the_float32_scalars_nothing_remains():
    """NAdam where the default dtype is float64, and Adafactor's chain with a decay in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        expected = trained_by_torch(torch.optim.NAdam)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(trained("nadam", preset="torch"), expected)
    scaled = optax.scale_by_factored_rms(decay_rate_fn=power_decay)
    rest = [
        optax.clip_by_block_rms(1.0),
        optax.scale(1e-2),
        optax.scale_by_param_block_rms(),
        optax.scale(-1),
    ]
    expected = trained_by_optax(optax.chain(scaled, *rest))
    assert_close(trained("adafactor", preset="optax", learning_rate=1e-2), expected)


def test_adafactor_without_a_rate_is_the_preset():
    """optax.adafactor() does not scale; ours has rate 1. One step, before the float32 decay shows."""
    with jax.enable_x64(True):
        transform, w = optax.adafactor(), jnp.asarray(START)
        gradient = jnp.asarray(2 * X.T @ (X @ START - Y) / Y.size)
        update, _ = transform.update(gradient, transform.init(w), w)
        assert_close(trained("adafactor", steps=1, preset="optax"), START + np.asarray(update))


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("sgd", {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "dampening": 0.3}),
        ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, None),
        ("adagrad", {"initial_accumulator": 0.1}, {"initial_accumulator_value": 0.1}),
        ("rmsprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}, None),
        ("adam", {"amsgrad": True}, None),
        ("adam", {"weight_decay": 0.1}, None),
        (
            "adam",
            {"weight_decay": 0.1, "decoupled": True},
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ),
        (
            "radam",
            {"weight_decay": 0.1, "decoupled": True},
            {"weight_decay": 0.1, "decoupled_weight_decay": True},
        ),
        ("rprop", {"shrink": 0.3, "grow": 1.5}, {"etas": (0.3, 1.5)}),
        (
            "adafactor",
            {"weight_decay": 0.1, "epsilon": 0.1, "clip": 2.0, "decay": 0.7},
            {"weight_decay": 0.1, "eps": (0.1, 1e-3), "d": 2.0, "beta2_decay": -0.7},
        ),
    ],
)
def test_plain_torch_is_reached_by_arguments(name, args, options):
    """None: torch calls them as we do."""
    found = trained(name, preset="torch", **args)
    assert_close(found, trained_by_torch(TORCH[name], **(args if options is None else options)))


@pytest.mark.parametrize(
    ("name", "transform", "args"),
    [
        ("sgd", optax.sgd(1e-2, 0.9, nesterov=True), {"momentum": 0.9, "nesterov": True}),
        (
            "sgd",
            optax.chain(optax.ema(0.9, debias=False), optax.scale(-1e-2)),
            {"momentum": 0.9, "dampening": 0.9, "first_damped": True},
        ),
        ("rmsprop", optax.rmsprop(1e-2, centered=True, momentum=0.9), {"centered": True, "momentum": 0.9}),
        ("adam", optax.adam(1e-2, eps_root=1e-3), {"epsilon_root": 1e-3}),
        ("adam", optax.amsgrad(1e-2), {"amsgrad": True}),
        (
            "adamw",
            optax.adamw(1e-2, eps_root=1e-3, weight_decay=0.1),
            {"epsilon_root": 1e-3, "weight_decay": 0.1},
        ),
        (
            "nadam",
            optax.nadamw(1e-2, weight_decay=0.1),
            {"weight_decay": 0.1, "decoupled": True},
        ),
        ("radam", optax.radam(1e-2, threshold=10.0, eps=1e-3), {"threshold": 10.0, "epsilon": 1e-3}),
        ("rprop", optax.rprop(1e-2, 0.3, 1.5), {"shrink": 0.3, "grow": 1.5}),
    ],
)
def test_plain_optax_is_reached_by_arguments(name, transform, args):
    found = trained(name, preset="optax", learning_rate=1e-2, **args)
    assert_close(found, trained_by_optax(transform))


def presets():
    """Of each optimizer; all but a few are left to the sweep."""
    for name, rule in OPTIMIZERS.items():
        for preset in rule.presets:
            marks = () if name in ("sgd", "adam", "rmsprop") else pytest.mark.sweep
            yield pytest.param(name, preset, id=f"{name}-{preset}", marks=marks)


@pytest.mark.parametrize(("name", "preset"), list(presets()))
def test_every_backend_trains_every_preset(name, preset):
    rate = (
        {} if preset == "torch" else {"learning_rate": 1e-3}
    )  # Adafactor's own rate under optax, 1, diverges
    problem = network("preset", Optimizer(name, preset=preset, **rate))
    lockstep.assert_parity(problem, dtypes=["float64"])


@pytest.mark.parametrize("table", [FUNCTIONS, LOSSES, OPTIMIZERS, SCHEDULES, CLIPS])
def test_presets_are_valid_arguments(table):
    for name, rule in table.items():
        for preset, args in rule.presets.items():
            known = {key: rule.arguments[key] for key in args}
            assert checked_args(f"{name} {preset}", args, known) == args


def test_a_preset_is_resolved_at_once():
    one = Optimizer("adamw", preset="optax", learning_rate=0.1)
    assert one == Optimizer("adamw", learning_rate=0.1, weight_decay=1e-4)
    assert "weight_decay=0.0001" in repr(one)
    assert "preset" not in repr(one)
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(Optimizer("adamw", learning_rate=0.1, weight_decay=1e-4))


def test_what_is_given_comes_before_the_preset():
    assert Optimizer("adam", preset="torch").args["learning_rate"] == 1e-3
    assert Optimizer("adam", preset="torch", learning_rate=0.5).args["learning_rate"] == 0.5


def test_layers_and_clips_have_presets_too():
    assert Layer("gelu", preset="jax").args["approximate"] == "tanh"
    assert Clip("norm", preset="optax", limit=1.0).args["epsilon"] == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Optimizer("adam", preset="keras"),
            "'adam' has no such preset\n.*'keras'\n.*'torch' or 'optax'",
        ),
        (
            lambda: Optimizer("lion", preset="torch"),
            "'lion' has no such preset\n.*'torch'\n.*use 'optax', or none",
        ),
        (lambda: Optimizer("adam", preset=["torch"]), "has no such preset"),
        (lambda: Optimizer("adam", preset="optax"), "lacks 'learning_rate'"),
        (lambda: Loss("squared_error", preset="torch"), "has no such preset\n.*\n.*give its arguments"),
    ],
)
def test_bad_presets_are_refused(make, words):
    with pytest.raises(LockstepError, match=words) as caught:
        make()
    assert isinstance(caught.value, ProblemError)
