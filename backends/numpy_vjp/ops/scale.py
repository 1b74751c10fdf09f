"""Multiplying by a vector."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp, unbroadcast
from lockstep.backends.problem import Array


@Function
def scale(x: Array, s: Array) -> Array:
    """f(x, s) = x ⊙ s, with s (out,) broadcast over the batch."""
    return x * s


@scale.define_vjp
def scale_make_vjp(x: Array, s: Array) -> Vjp:
    """J_f(x)ᵀu = u ⊙ s, and J_f(s)ᵀu = Σ u ⊙ x over the batch."""

    def vjp(u: Array) -> tuple[Array, Array]:
        return u * s, unbroadcast(u * x, np.shape(s))

    return vjp
