"""A hand-written NumPy function as a jax.custom_vjp, so that jax's check_grads can judge its VJP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lockstep.backends.numpy_vjp.function import Function


def wrap(f: Function) -> Callable[..., jax.Array]:
    """`f` as a differentiable function of JAX arrays: ``wrap(f)(x)`` or ``wrap(f)(x, w)``; works under jit.

    NumPy is called back from the compiled program; reverse mode only, one derivative.
    """

    @jax.custom_vjp
    def wrapped(x: jax.Array, w: jax.Array | None = None) -> jax.Array:
        # The shape of the result is that at ones, where every function of the registry is defined.
        like = f(np.ones(x.shape, x.dtype), None if w is None else np.ones(w.shape, w.dtype))
        result: jax.Array = jax.pure_callback(
            lambda x, w: _as(f(*_arrays(x, w)), x), _shape(np.shape(like), x.dtype), x, w
        )
        return result

    def forward(x: jax.Array, w: jax.Array | None) -> tuple[jax.Array, Any]:
        return wrapped(x, w), (x, w)

    def backward(saved: Any, u: jax.Array) -> Any:
        x, w = saved
        constant = w is not None and _pull(f, np.ones(x.shape, x.dtype), np.ones(w.shape, w.dtype)) is None
        shapes = _shape(x.shape, x.dtype), None if w is None else _shape(w.shape, w.dtype)
        grads = jax.pure_callback(lambda x, w, u: _grads(f, x, w, u, constant), shapes, x, w, u)
        return tuple(grads)

    wrapped.defvjp(forward, backward)
    result: Callable[..., jax.Array] = wrapped
    return result


def _pull(f: Function, x: Any, w: Any) -> Any:
    """J_f(w)ᵀ1, None where w is a constant."""
    return f.make_vjp(x, w)(np.ones_like(f(x, w)))[1]


def _grads(f: Function, x: Any, w: Any, u: Any, constant: bool) -> tuple[Any, Any]:
    """Both products; JAX wants a zero where a constant has no derivative."""
    x, w = _arrays(x, w)
    grad_x, grad_w = f.make_vjp(x, w)(np.asarray(u))
    return _as(grad_x, x), np.zeros_like(w) if constant else None if w is None else _as(grad_w, w)


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _arrays(x: Any, w: Any) -> tuple[Any, Any]:
    return np.asarray(x), None if w is None else np.asarray(w)


def _as(value: Any, like: Any) -> Any:
    return np.asarray(value, dtype=like.dtype)
