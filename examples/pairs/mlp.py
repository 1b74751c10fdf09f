"""A multilayer perceptron: torch, and Haiku. The mistake: `jax.nn.gelu` is the tanh approximation unless told otherwise."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from lockstep.backends import jax_haiku, pytorch


def original():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 1)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    return pytorch.adopt(model, torch.nn.functional.mse_loss, optimizer)


def _port(approximate, name):
    def model(x):
        hidden = jax.nn.gelu(hk.Linear(8)(x), approximate=approximate)
        return hk.Linear(1)(hidden)

    with jax.enable_x64(True):
        transformed = hk.without_apply_rng(hk.transform(model))
        params = transformed.init(jax.random.key(0), jnp.zeros((1, 4), jnp.float64))
    return jax_haiku.adopt(
        transformed, _mean_squared, optax.adamw(1e-2, weight_decay=1e-2), params, name=name
    )


def _mean_squared(output, y):
    return jnp.mean((output - y) ** 2)


def port():
    return _port(approximate=False, name="haiku")


def wrong_port():
    return _port(approximate=True, name="haiku, gelu's default")


def batches():
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = rng.standard_normal((16, 4))
        yield x, np.sin(x).sum(1, keepdims=True)
