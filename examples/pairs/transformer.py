"""A transformer block before its norms: torch with one fused projection, Flax with three.

The mistake: Flax' LayerNorm has an epsilon of 1e-6 by default, torch's 1e-5.
"""

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from lockstep.backends import jax_haiku, pytorch

WIDTH, HEADS = 8, 2


class TorchBlock(torch.nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self):
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(WIDTH)
        self.attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.up = torch.nn.Linear(WIDTH, 2 * WIDTH)
        self.down = torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.down(torch.nn.functional.silu(self.up(self.norm2(x))))


class FlaxBlock(nn.Module):
    """The same."""

    epsilon: float

    @nn.compact
    def __call__(self, x):
        kept = {"param_dtype": x.dtype}
        normed = nn.LayerNorm(epsilon=self.epsilon, name="norm1", **kept)(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, name="attention", **kept)(normed)
        normed = nn.LayerNorm(epsilon=self.epsilon, name="norm2", **kept)(x)
        up = nn.Dense(2 * WIDTH, name="up", **kept)(normed)
        return x + nn.Dense(WIDTH, name="down", **kept)(nn.silu(up))


def original():
    torch.manual_seed(0)
    model = TorchBlock().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return pytorch.adopt(model, torch.nn.functional.mse_loss, optimizer)


def _port(epsilon, name):
    model = FlaxBlock(epsilon)
    with jax.enable_x64(True):
        params = model.init(jax.random.key(0), jnp.zeros((1, 3, WIDTH), jnp.float64))["params"]

    def apply(params, x):
        return model.apply({"params": params}, x)

    return jax_haiku.adopt(apply, _mean_squared, optax.adam(1e-3), params, stages=stages_of(model), name=name)


def stages_of(model):
    """What each module of Flax gives, by its path: what a diagnosis compares on the way."""

    def stages(params, x):
        _, kept = model.apply({"params": params}, x, capture_intermediates=True)
        found = flax.traverse_util.flatten_dict(kept["intermediates"], sep="/")
        return {path.removesuffix("/__call__"): values[0] for path, values in found.items() if "/" in path}

    return stages


def _mean_squared(output, y):
    return jnp.mean((output - y) ** 2)


def port():
    return _port(1e-5, "flax")


def wrong_port():
    return _port(1e-6, "flax, LayerNorm's default")


def batches():
    rng = np.random.default_rng(0)
    for _ in range(8):
        x = rng.standard_normal((4, 5, WIDTH))
        yield x, np.roll(x, 1, axis=1)
