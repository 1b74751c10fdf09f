"""The same small models in several frameworks, adopted."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

from lockstep.backends import jax_haiku, numpy_vjp, pytorch
from lockstep.backends.numpy_vjp import add, dot, mean_squared_loss, sgd
from lockstep.backends.numpy_vjp.tables import FUNCTIONS

WIDTH = 4
"""Square on purpose: every hidden weight could be transposed."""

NAMES = {
    "0.weight": {"to": "w0", "transpose": [1, 0]},
    "0.bias": "b0",
    "2.weight": {"to": "w1", "transpose": [1, 0]},
    "2.bias": "b1",
    "4.weight": {"to": "w2", "transpose": [1, 0]},
    "4.bias": "b2",
}
"""From the torch perceptron to the plain one."""


def batches(steps=6, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((rows, WIDTH)), rng.standard_normal((rows, 1))) for _ in range(steps)]


def optimizers(name, rate):
    """The torch class with its arguments, and the Optax transform."""
    return {
        "sgd": (lambda p: torch.optim.SGD(p, lr=rate), optax.sgd(rate)),
        "momentum": (lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9), optax.sgd(rate, momentum=0.9)),
        "adam": (lambda p: torch.optim.Adam(p, lr=rate), optax.adam(rate)),
        "adamw": (
            lambda p: torch.optim.AdamW(p, lr=rate, weight_decay=0.1),
            optax.adamw(rate, weight_decay=0.1),
        ),
    }[name]


def perceptron(dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)
    return nn.Sequential(*layers).to(dtype)


def torch_side(optimizer="sgd", rate=0.1, *, module=None, loss=nn.functional.mse_loss, **settings):
    made, _ = optimizers(optimizer, rate)
    return pytorch.adopt(module or perceptron(), loss, made, **settings)


def plain_params(dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = {"w0": (WIDTH, WIDTH), "w1": (WIDTH, WIDTH), "w2": (WIDTH, 1)}
    weights = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return {**weights, **{f"b{one}": np.zeros(shape[1], dtype) for one, shape in enumerate(shapes.values())}}


def plain(params, x):
    hidden = jnp.tanh(x @ params["w0"] + params["b0"])
    hidden = jnp.tanh(hidden @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def squared(output, y):
    return jnp.mean((output - y) ** 2)


def jax_side(
    optimizer="sgd", rate=0.1, *, model=plain, loss=squared, transform=None, dtype="float64", **settings
):
    _, made = optimizers(optimizer, rate)
    with jax.enable_x64(dtype == "float64"):
        return jax_haiku.adopt(model, loss, transform or made, plain_params(dtype), **settings)


def haiku_side(optimizer="sgd", rate=0.1):
    def forward(x):
        hidden = jnp.tanh(hk.Linear(WIDTH)(x))
        hidden = jnp.tanh(hk.Linear(WIDTH)(hidden))
        return hk.Linear(1)(hidden)

    model = hk.without_apply_rng(hk.transform(forward))
    with jax.enable_x64(True):
        params = model.init(jax.random.PRNGKey(0), jnp.zeros((1, WIDTH), jnp.float64))
        return jax_haiku.adopt(model, squared, optimizers(optimizer, rate)[1], params, name="haiku")


def numpy_side(rate=0.1):
    ((tanh, _),) = FUNCTIONS["tanh"]({})
    chain = [
        (dot, "w0"),
        (add, "b0"),
        (tanh, None),
        (dot, "w1"),
        (add, "b1"),
        (tanh, None),
        (dot, "w2"),
        (add, "b2"),
    ]
    return numpy_vjp.adopt(chain, mean_squared_loss, sgd(rate), plain_params())
