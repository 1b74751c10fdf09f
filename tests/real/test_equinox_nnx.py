"""Models of Equinox and Flax NNX, as their users write them, against torch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import lockstep
from lockstep import Verdict

RATE = 1e-2


def batches(channels_first):
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((4, 1, 6, 6)) for _ in range(4)]
    return [(one if channels_first else one.transpose(0, 2, 3, 1), rng.integers(0, 3, 4)) for one in images]


def torch_model(epsilon=1e-5, activation=torch.nn.GELU):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        activation(),
        torch.nn.Flatten(),
        torch.nn.LayerNorm(144, eps=epsilon),
        torch.nn.Linear(144, 3),
    ).double()


def torch_side(module=None, optimizer=None, loss=torch.nn.functional.cross_entropy):
    make = optimizer or (lambda p: torch.optim.Adam(p, lr=RATE))
    return lockstep.adopt_torch(module or torch_model(), loss, make)


def cross_entropy(output, y):
    return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()


class Equinox(eqx.Module):
    layers: list

    def __init__(self, key):
        conv, linear = jax.random.split(key)
        self.layers = [
            eqx.nn.Conv2d(1, 4, 3, padding=1, key=conv, dtype=jnp.float64),
            eqx.nn.LayerNorm(144, dtype=jnp.float64),
            eqx.nn.Linear(144, 3, key=linear, dtype=jnp.float64),
        ]

    def __call__(self, x):
        hidden = jax.nn.gelu(self.layers[0](x), approximate=False).reshape(-1)
        return self.layers[2](self.layers[1](hidden))


def equinox_side():
    return lockstep.adopt_jax(Equinox(jax.random.key(0)), cross_entropy, optax.adam(RATE), name="equinox")


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), padding=1, rngs=rngs, param_dtype=jnp.float64)
        self.norm = nnx.LayerNorm(144, epsilon=1e-5, rngs=rngs, param_dtype=jnp.float64)
        self.linear = nnx.Linear(144, 3, rngs=rngs, param_dtype=jnp.float64)

    def __call__(self, x):
        hidden = jax.nn.gelu(self.conv(x), approximate=False)
        return self.linear(self.norm(hidden.transpose(0, 3, 1, 2).reshape(len(x), -1)))


def nnx_side():
    return lockstep.adopt_jax(Nnx(nnx.Rngs(0)), cross_entropy, optax.adam(RATE), name="nnx")


class ChannelsLast(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.permute(0, 3, 1, 2).contiguous())


SIDES = {"equinox": (equinox_side, True), "nnx": (nnx_side, False)}


def verified(name, module=None, **settings):
    side, channels_first = SIDES[name]
    module = module or torch_model()
    other = torch_side(module if channels_first else ChannelsLast(module), **settings)
    return lockstep.verify_adopted([side(), other], batches(channels_first))


@pytest.mark.parametrize("name", SIDES)
def test_a_right_pair_agrees_and_is_mapped_by_itself(name):
    result = verified(name)
    assert result.verdict is Verdict.AGREE, result.census()


def frozen():
    module = torch_model()
    module[4].bias.requires_grad_(False)
    return {"module": module}


MISTAKES = {
    "parameter never updated": frozen,
    "learning rate": lambda: {"optimizer": lambda p: torch.optim.Adam(p, lr=2 * RATE)},
    "constant ratio": lambda: {
        "loss": lambda output, y: torch.nn.functional.cross_entropy(output, y, reduction="sum")
    },
    "weight decay": lambda: {"optimizer": lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.1)},
    "": lambda: {"module": torch_model(activation=lambda: torch.nn.GELU(approximate="tanh"))},
}
"""Name of the right explanation, none for a mistake of the model -> the wrong port."""


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", SIDES)
def test_a_mistake_is_found_and_named(name, mistake):
    result = verified(name, **MISTAKES[mistake]())
    assert result.verdict is Verdict.DIFFER
    (found,) = result.cases[0].diagnoses
    assert (found.explanation.name if found.explanation else "") == mistake, found.sentence
    if not mistake:
        assert found.first.name == "forward/output"
