"""Functions of several functions over one input. The parameter is the tuple of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Param, Vjp
from lockstep.backends.problem import Array


def residual(branches: Sequence[Function]) -> Function:
    """f(x, w) = x + Σ f_k(x, w_k)."""

    @Function
    def f(x: Array, params: Sequence[Param]) -> Array:
        return x + sum(g(x, w) for g, w in zip(branches, params, strict=True))

    @f.define_vjp
    def make_vjp(x: Array, params: Sequence[Param]) -> Vjp:
        """J_f(x)ᵀu = u + Σ J_k(x)ᵀu: the cotangent goes into every branch, and what comes back is added."""
        pulls = [g.make_vjp(x, w) for g, w in zip(branches, params, strict=True)]

        def vjp(u: Array) -> tuple[Array, Param]:
            pulled = [pull(u) for pull in pulls]
            return u + sum(grad_x for grad_x, _ in pulled), tuple(grad_w for _, grad_w in pulled)

        return vjp

    f.__name__ = "residual"
    return f


def parallel(branches: Sequence[Function]) -> Function:
    """f(x, w) = (f_1(x, w_1), …, f_K(x, w_K)) side by side along the last axis."""

    @Function
    def f(x: Array, params: Sequence[Param]) -> Array:
        return np.concatenate([g(x, w) for g, w in zip(branches, params, strict=True)], axis=-1)

    @f.define_vjp
    def make_vjp(x: Array, params: Sequence[Param]) -> Vjp:
        """Each branch is given its own columns of u, and what comes back is added."""
        pulls = [g.make_vjp(x, w) for g, w in zip(branches, params, strict=True)]
        widths = [g(x, w).shape[-1] for g, w in zip(branches, params, strict=True)]

        def vjp(u: Array) -> tuple[Array, Param]:
            parts = np.split(u, np.cumsum(widths)[:-1], axis=-1)
            pulled = [pull(part) for pull, part in zip(pulls, parts, strict=True)]
            return reduce(add, (grad_x for grad_x, _ in pulled)), tuple(grad_w for _, grad_w in pulled)

        return vjp

    f.__name__ = "parallel"
    return f
