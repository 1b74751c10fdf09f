"""Convolution and batch norm: torch, channels first, and Flax, channels last.

The mistake: Flax' BatchNorm averages the variance of n values, torch's that of n − 1. Training does not show it, evaluation does.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from lockstep.backends import jax_haiku, pytorch

CHANNELS, CLASSES = 4, 3


def original():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, CHANNELS, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(CHANNELS),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(CHANNELS, CLASSES),
    ).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return pytorch.adopt(model, torch.nn.functional.cross_entropy, optimizer)


class TorchBatchNorm(nn.Module):
    """As torch's: normalised by the variance of n values, the running variance is that of n − 1."""

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], x.dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], x.dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:], x.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, x.shape[-1:], x.dtype)
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        if not self.is_initializing():
            count = x.size // x.shape[-1]
            for running, value in ((running_mean, mean), (running_var, var * count / (count - 1))):
                running.value += self.momentum * (value - running.value)
        return (x - mean) / jnp.sqrt(var + self.epsilon) * scale + bias


class ConvNet(nn.Module):
    """Channels last inside; x comes as torch has it."""

    norm: type[nn.Module] = TorchBatchNorm

    @nn.compact
    def __call__(self, x):
        x = jnp.transpose(x, (0, 2, 3, 1))
        x = nn.Conv(CHANNELS, (3, 3), padding=1, use_bias=False, param_dtype=x.dtype)(x)
        x = nn.relu(self.norm(name="BatchNorm_0")(x))
        return nn.Dense(CLASSES, param_dtype=x.dtype)(x.mean((1, 2)))


def _stock(name):
    return nn.BatchNorm(use_running_average=False, momentum=0.9, param_dtype=jnp.float64, name=name)


def _port(norm, name):
    model = ConvNet(norm)
    with jax.enable_x64(True):
        variables = model.init(jax.random.key(0), jnp.zeros((2, 2, 6, 6), jnp.float64))
        # Flax' own begins in float32 whatever it is given.
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)

    def apply(params, state, x):
        return model.apply({"params": params, "batch_stats": state}, x, mutable=["batch_stats"])

    def moved(params, state, x):
        output, changed = apply(params, state, x)
        return output, changed["batch_stats"]

    return jax_haiku.adopt(
        moved,
        _cross_entropy,
        optax.sgd(0.05, momentum=0.9),
        variables["params"],
        state=variables["batch_stats"],
        name=name,
    )


def _cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def port():
    return _port(TorchBatchNorm, "flax")


def wrong_port():
    return _port(_stock, "flax, its own batch norm")


def batches():
    rng = np.random.default_rng(0)
    for _ in range(8):
        x = rng.standard_normal((5, 2, 6, 6))
        yield x, (x.mean((1, 2, 3)) > 0).astype(np.int64) + (x[:, 0].max((1, 2)) > 2)
