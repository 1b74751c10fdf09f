"""The matrix product."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.problem import Array


@Function
def dot(x: Array, w: Array) -> Array:
    """f(x, W) = xW with x (..., in), W (in, out)."""
    product: Array = np.dot(x, w)
    return product


@dot.define_vjp
def dot_make_vjp(x: Array, w: Array) -> Vjp:
    """J_f(x)ᵀu = uWᵀ and J_f(W)ᵀu = xᵀu, contracted over the batch.

    The seed keeps one outer product per example (``einsum('na,nb->nab')``) and sums them in its optimizer:
    O(n·in·out) memory for a sum that the matrix product xᵀu forms in O(in·out). The contraction is the same
    number up to the order of summation; ``benchmarks/bench_contraction.py`` measures what it saves.
    """

    def vjp(u: Array) -> tuple[Array, Array]:
        rows, cotangents = x.reshape(-1, x.shape[-1]), u.reshape(-1, u.shape[-1])
        return np.dot(u, w.T), np.dot(rows.T, cotangents)

    return vjp
