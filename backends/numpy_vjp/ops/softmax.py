"""Softmax and its logarithm over the last axis."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.special import largest
from lockstep.backends.problem import Array


def _shifted(x: Array) -> Array:
    """X − max x: the same softmax, and no exponential overflows; any shift near the maximum would do."""
    return x - largest(x)


@Function
def softmax(x: Array, w: None = None) -> Array:
    """P = eˣ / Σ eˣ."""
    e = np.exp(_shifted(x))
    return e / np.sum(e, axis=-1, keepdims=True)


@softmax.define_vjp
def softmax_make_vjp(x: Array, w: None = None) -> Vjp:
    """J = diag(p) − ppᵀ, symmetric: Jᵀu = p ⊙ (u − pᵀu)."""
    p = softmax(x)

    def vjp(u: Array) -> tuple[Array, None]:
        return p * (u - np.sum(p * u, axis=-1, keepdims=True)), None

    return vjp


@Function
def log_softmax(x: Array, w: None = None) -> Array:
    """X − log Σ eˣ."""
    z = _shifted(x)
    return z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))


@log_softmax.define_vjp
def log_softmax_make_vjp(x: Array, w: None = None) -> Vjp:
    """J = I − 1pᵀ: Jᵀu = u − p Σu."""
    p = softmax(x)

    def vjp(u: Array) -> tuple[Array, None]:
        return u - p * np.sum(u, axis=-1, keepdims=True), None

    return vjp
