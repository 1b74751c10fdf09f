"""How far apart the backends may be on one function: in ULPs of the largest intermediate of its stated formula.

A row gives, for x and the value f, the largest intermediate of the forward formula and of the derivative, element by
element (the cotangents are ±1). Sums of n terms are held to γₙ Σ|terms| = n ε/(2 − n ε) Σ|terms| beside that.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ULPS = 8


class Row(NamedTuple):
    forward: Callable
    backward: Callable


def one(x, f):
    return np.ones_like(x)


def size(x, f):
    return np.abs(x)


def value(x, f):
    return np.abs(f)


def at_least_one(x, f):
    return np.maximum(np.abs(x), 1)


def sigma(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def shifted(x):
    return np.abs(x - x.max(-1, keepdims=True))


def softmax(x):
    e = np.exp(-shifted(x))
    return e / e.sum(-1, keepdims=True)


ROWS = {
    "exp": Row(value, value),
    "log": Row(value, lambda x, f: 1 / np.abs(x)),
    "square": Row(value, size),
    "sqrt": Row(value, lambda x, f: 0.5 / np.sqrt(x)),
    "abs": Row(value, one),
    "relu": Row(value, one),
    "leaky_relu": Row(value, one),
    # α(eˣ − 1): eˣ and 1 are the intermediates on the left.
    "elu": Row(at_least_one, one),
    "selu": Row(lambda x, f: 1.76 * at_least_one(x, f), lambda x, f: np.full_like(x, 1.76)),
    # x Φ(x): Φ is a half of 1 + erf, whatever is left of it. Its slope: Φ + x φ.
    "gelu": Row(size, lambda x, f: 1 + np.abs(x) * np.exp(-x * x / 2)),
    # As gelu, with σ of z = 2√(2/π)(x + 0.0447 x³) for Φ; the slope's last term is x σ' z'.
    "gelu-tanh": Row(size, lambda x, f: 1 + np.abs(x) * (1.6 + 0.22 * x * x) * np.exp(-1.6 * np.abs(x))),
    "silu": Row(lambda x, f: np.abs(x) * sigma(x), lambda x, f: sigma(x) * (1 + np.abs(x))),
    "sigmoid": Row(value, lambda x, f: sigma(x)),  # σ(1 − σ): 1 − σ cancels on the right
    "tanh": Row(value, one),  # 1 − tanh²
    "softplus": Row(value, lambda x, f: sigma(x)),
    # x − max rounds, and e to its power keeps that rounding relative.
    "softmax": Row(lambda x, f: f * (1 + shifted(x)), lambda x, f: (1 + shifted(x)) * softmax(x)),
    "log_softmax": Row(
        lambda x, f: shifted(x) + np.log(x.shape[-1]),
        lambda x, f: 1 + x.shape[-1] * (1 + shifted(x)) * softmax(x),
    ),
}


class Tail(NamedTuple):
    """Where a framework is worse: by at most so many ULPs, and why."""

    ulps: float
    where: Callable
    reason: str


def between(low, high):
    return lambda x: (np.abs(x) > low) & (np.abs(x) < high)


CANCELS = "1 − tanh² cancels and is multiplied by x z'; NumPy has a product of sigmoids there"

TAILS = {
    ("gelu-tanh", "jax", "float64", "backward"): Tail(200, between(3, 8), CANCELS),
    ("gelu-tanh", "torch", "float64", "backward"): Tail(32, between(6, 8), CANCELS),
    ("gelu-tanh", "jax", "float32", "backward"): Tail(36, between(3, 6), CANCELS),
    ("gelu-tanh", "torch", "float32", "backward"): Tail(12, between(5, 6), CANCELS),
    ("softplus", "jax", "float64", "backward"): Tail(
        24, between(15, 38), "e to the power x − f: the rounding of the difference becomes relative"
    ),
}
"""By function, backend, dtype and direction; each is seen to be needed."""


def quadratic(p, y):
    e = np.abs(p - y)
    return np.minimum(e, 1) * (e + 1)


LOSS_ROWS = {
    # the terms of the sum and the derivative of one of them
    "squared_error": Row(lambda p, y: (p - y) ** 2, lambda p, y: 2 * np.abs(p - y)),
    "half_squared_error": Row(lambda p, y: (p - y) ** 2 / 2, lambda p, y: np.abs(p - y)),
    "absolute_error": Row(lambda p, y: np.abs(p - y), lambda p, y: np.ones_like(p)),
    "huber": Row(quadratic, lambda p, y: np.minimum(np.abs(p - y), 1)),
    "smooth_l1": Row(quadratic, lambda p, y: np.minimum(np.abs(p - y), 1)),
    "log_cosh": Row(lambda p, y: np.abs(p - y) + 1, lambda p, y: np.ones_like(p)),
    "quantile": Row(lambda p, y: np.abs(p - y), lambda p, y: np.ones_like(p)),
    "poisson": Row(lambda p, y: np.exp(p) + np.abs(y * p), lambda p, y: np.exp(p) + np.abs(y)),
    "logistic": Row(lambda p, y: np.maximum(p, 0) + 1 + np.abs(y * p), lambda p, y: 1 + np.abs(y)),
    "softmax_cross_entropy": Row(
        lambda p, y: np.abs(y) * (shifted(p) + 1), lambda p, y: (1 + shifted(p)) * softmax(p) + np.abs(y)
    ),
    # the prediction's halves: means, log variances
    "gaussian": Row(
        lambda p, y: np.abs(halves(p)[1]) + (halves(p)[0] - y) ** 2 * np.exp(-halves(p)[1]),
        lambda p, y: gaussian_slopes(p, y),
    ),
}


def halves(p):
    return np.split(p, 2, axis=-1)


def gaussian_slopes(p, y):
    m, s = halves(p)
    e = np.abs(m - y) * np.exp(-s)
    return np.concatenate([e, 1 + np.abs(m - y) * e], axis=-1)


LINEAR = {
    "dot",
    "add",
    "linear",
    "scale",
    "dropout",
    "embedding",
    "conv1d",
    "conv2d",
    "average_pool",
    "flatten",
    "max_pool",
}
"""Sums of products: at |x| and |w| they and their VJPs give Σ|terms|."""

NORMALISING = {"layer_norm": "last", "rms_norm": "last", "batch_norm": "batch"}

COMPOSED = {"attention", "residual", "parallel"}
"""Chains of functions that have a row of their own; test_layers holds them to 32 roundings of the largest element."""
