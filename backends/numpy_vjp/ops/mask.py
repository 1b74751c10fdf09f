"""Dropout: multiplying by a given mask."""

from __future__ import annotations

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.problem import Array


@Function
def mask(x: Array, m: Array) -> Array:
    """f(x, m) = x ⊙ m, with m of the shape of x, 0 or 1/(1 − p)."""
    return x * m


@mask.define_vjp
def mask_make_vjp(x: Array, m: Array) -> Vjp:
    """J_f(x) = diag(m); the mask is a constant."""

    def vjp(u: Array) -> tuple[Array, None]:
        return u * m, None

    return vjp
