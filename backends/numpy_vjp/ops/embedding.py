"""Looking up rows of a table."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.problem import Array


@Function
def embedding(x: Array, w: Array) -> Array:
    """f(x, W) = W[x], with x (n, ...) whole numbers and W (ids, out)."""
    return w[x.astype(np.intp)]


@embedding.define_vjp
def embedding_make_vjp(x: Array, w: Array) -> Vjp:
    """J_f(W)ᵀu adds each u to its row; an id repeated adds again. Ids are whole: J_f(x) = 0."""

    def vjp(u: Array) -> tuple[Array, Array]:
        grad = np.zeros_like(w)
        np.add.at(grad, x.astype(np.intp), u)
        return np.zeros_like(x), grad

    return vjp
