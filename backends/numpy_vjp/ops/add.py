"""Adding a bias."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp, unbroadcast
from lockstep.backends.problem import Array


@Function
def add(x: Array, b: Array) -> Array:
    """f(x, b) = x + b, with b (out,) broadcast over the batch."""
    return x + b


@add.define_vjp
def add_make_vjp(x: Array, b: Array) -> Vjp:
    """J_f(x) = I, and J_f(b) stacks one identity per example: J_f(b)ᵀu sums u over the batch.

    The seed returns u per example and sums in its optimizer; here the sum is the VJP's.
    """
    shape_x, shape_b = np.shape(x), np.shape(b)

    def vjp(u: Array) -> tuple[Array, Array]:
        return unbroadcast(u, shape_x), unbroadcast(u, shape_b)

    return vjp
