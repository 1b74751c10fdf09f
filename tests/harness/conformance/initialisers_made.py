"""Models built from seeds: torch's own, their formulas in NumPy, and each formula wrong in one way."""

import numpy as np
import torch
from torch import nn


def generator(seed):
    return np.random.default_rng(seed)


def uniform(rng, fan, shape, dtype="float32"):
    return rng.uniform(-(fan**-0.5), fan**-0.5, shape).astype(dtype)


def perceptron():
    return nn.Sequential(nn.Linear(24, 40), nn.LayerNorm(40), nn.Tanh(), nn.Linear(40, 8))


def formula(seed, **changes):
    """torch's formulas of the perceptron, in (in, out); `changes` are of whole parameters, by `w0`, `b0`, `g`, `c`, `w1`, `b1`."""
    rng = generator(seed)
    arrays = {
        "w0": uniform(rng, 24, (24, 40)),
        "b0": uniform(rng, 24, 40),
        "g": np.ones(40, "float32"),
        "c": np.zeros(40, "float32"),
        "w1": uniform(rng, 40, (40, 8)),
        "b1": uniform(rng, 40, 8),
    }
    arrays |= {name: np.asarray(change(rng, arrays), "float32") for name, change in changes.items()}
    return {
        "0": {"weight": arrays["w0"], "bias": arrays["b0"]},
        "1": {"weight": arrays["g"], "bias": arrays["c"]},
        "3": {"weight": arrays["w1"], "bias": arrays["b1"]},
    }


def changed(**changes):
    return lambda seed: formula(seed, **changes)


class Layers(nn.Module):
    """One of each kind of layer with an initialiser of its own."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.conv = nn.Conv2d(3, 8, (3, 5))
        self.lstm = nn.LSTM(16, 12)
        self.norm = nn.BatchNorm1d(7)


def layers(seed):
    """torch's formulas of the same."""
    rng = generator(seed)
    embedding = rng.standard_normal((50, 16)).astype("float32")
    embedding[0] = 0
    lstm = {"weight_ih_l0": (48, 16), "weight_hh_l0": (48, 12), "bias_ih_l0": 48, "bias_hh_l0": 48}
    return {
        "embedding.weight": embedding,
        "conv.weight": uniform(rng, 45, (8, 3, 3, 5)),
        "conv.bias": uniform(rng, 45, 8),
        **{f"lstm.{name}": uniform(rng, 12, shape) for name, shape in lstm.items()},
        "norm.weight": np.ones(7, "float32"),
        "norm.bias": np.zeros(7, "float32"),
    }


def trained(seed):
    """The perceptron after a few steps of Adam."""
    module = perceptron()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    x = torch.randn(64, 24)
    for _ in range(3):
        optimizer.zero_grad()
        (module(x) - x[:, :8]).square().mean().backward()
        optimizer.step()
    return module


def square(seed, dtype="float64", drawn="float64"):
    """A weight of 8 x 8, drawn in one dtype and kept in another."""
    return {"w": uniform(generator(seed), 8, (8, 8), drawn).astype(dtype)}
