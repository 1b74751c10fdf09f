"""Functions of one argument, in operations that autograd differentiates without leaving float32.

`mean`, `var`, `max`, `maximum` and `where` are avoided throughout this package: their derivatives in autograd 1.9 divide by
NumPy integers or make float64 arrays, and what is float32 becomes float64 on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as np
from autograd.scipy.special import erfc
from autograd.tracer import getval

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def parts(x: Array) -> tuple[Array, Array]:
    """max(x, 0) and min(x, 0); at 0 the derivative is the second one's."""
    positive = x > 0
    return positive * x, ~positive * x


def leaky_relu(x: Array, slope: float) -> Array:
    above, below = parts(x)
    return above + slope * below


def elu(x: Array, alpha: float) -> Array:
    above, below = parts(x)
    return above + alpha * np.expm1(below)


def gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * erfc(-math.sqrt(0.5) * x)  # 1 + erf cancels on the left


def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0.0)


def sigmoid(x: Array) -> Array:
    return np.exp(-softplus(-x))  # 1 / (1 + exp(-x)) overflows on the left


def log_softmax(x: Array) -> Array:
    shifted = x - np.max(getval(x), axis=-1, keepdims=True)  # a constant, which drops out
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


ACTIVATIONS: Mapping[str, Callable[[Any, Args], Any]] = {
    "exp": lambda x, args: np.exp(x),
    "log": lambda x, args: np.log(x),
    "square": lambda x, args: np.square(x),
    "sqrt": lambda x, args: np.sqrt(x),
    "abs": lambda x, args: np.abs(x),
    "relu": lambda x, args: parts(x)[0],
    "leaky_relu": lambda x, args: leaky_relu(x, args["slope"]),
    "elu": lambda x, args: elu(x, args["alpha"]),
    "selu": lambda x, args: SELU_SCALE * elu(x, SELU_ALPHA),
    "gelu": lambda x, args: gelu(x, args["approximate"]),
    "silu": lambda x, args: x * sigmoid(x),
    "sigmoid": lambda x, args: sigmoid(x),
    "tanh": lambda x, args: np.tanh(x),
    "softplus": lambda x, args: softplus(x),
    "log_sigmoid": lambda x, args: -softplus(-x),
    "softmax": lambda x, args: np.exp(log_softmax(x)),
    "log_softmax": lambda x, args: log_softmax(x),
}
"""Name -> function of (x, arguments)."""
