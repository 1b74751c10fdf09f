"""The loss of a batch, and what the parameters themselves add to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays, Loss, Problem
from lockstep_autograd.activations import log_softmax, softplus


def _huber(e: Array, delta: float) -> Array:
    size = np.abs(e)
    near = size <= delta
    return near * (np.square(e) / 2) + ~near * (delta * (size - delta / 2))


def _quantile(r: Array, q: float) -> Array:
    # The larger of q r and (q - 1) r, of which abs has derivative 0 at 0: the mean of both sides.
    return (q - 0.5) * r + np.abs(r) / 2


ELEMENTS: Mapping[str, Callable[[Any, Any, Args], Any]] = {
    "squared_error": lambda p, y, args: np.square(p - y),
    "half_squared_error": lambda p, y, args: np.square(p - y) / 2,
    "absolute_error": lambda p, y, args: np.abs(p - y),
    "huber": lambda p, y, args: _huber(p - y, args["delta"]),
    "smooth_l1": lambda p, y, args: _huber(p - y, args["beta"]) / args["beta"],
    "log_cosh": lambda p, y, args: np.logaddexp(p - y, y - p) - math.log(2),
    "quantile": lambda p, y, args: _quantile(y - p, args["q"]),
    "poisson": lambda p, y, args: np.exp(p) - y * p,
    "logistic": lambda p, y, args: softplus(p) - y * p,
    "softmax_cross_entropy": lambda p, y, args: -np.sum(y * log_softmax(p), axis=-1),
}
"""Name -> function of (prediction, target, arguments), to be summed or averaged."""


def reduced(loss: Loss, prediction: Array, y: Array) -> Array:
    """The loss of a batch: a scalar."""
    elements = ELEMENTS[loss.name](prediction, y, loss.args)
    total = np.sum(elements)
    return total / elements.size if loss.args["reduction"] == "mean" else total


PENALTIES: Mapping[str, Callable[[Any], Any]] = {
    "l1": lambda w: np.sum(np.abs(w)),
    "l2": lambda w: np.sum(np.square(w)) / 2,
}


def penalised(problem: Problem, loss: Array, parameters: Arrays) -> Array:
    """The loss with every penalty added."""
    for penalty in problem.penalties:
        of = PENALTIES[penalty.name]
        loss = loss + penalty.args["weight"] * sum(
            of(parameters[name]) for name in problem.penalised(penalty)
        )
    return loss
