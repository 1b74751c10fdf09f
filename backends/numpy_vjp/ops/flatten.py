"""All axes of an example as one."""

from __future__ import annotations

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.problem import Array


@Function
def flatten(x: Array, w: None = None) -> Array:
    """X (n, ...) as (n, elements), the last axis fastest."""
    return x.reshape(len(x), -1)


@flatten.define_vjp
def flatten_make_vjp(x: Array, w: None = None) -> Vjp:
    """A permutation of names only: Jᵀu is u in the shape of x."""

    def vjp(u: Array) -> tuple[Array, None]:
        return u.reshape(x.shape), None

    return vjp
