"""Pooling: the largest or the mean of each window."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.ops.windows import at, offsets, pad, slide, unpad
from lockstep.backends.problem import Array


def _windows(x: Array, size: int, stride: int) -> Array:
    """The windows of x (n, ..., channels), each as one last axis: (n, places ..., channels, elements)."""
    windows = slide(x, size, stride)
    return windows.reshape(*windows.shape[: x.ndim], -1)


def max_pool(size: int, stride: int, padding: int) -> Function:
    """The largest element of each window; the padding is −∞."""

    @Function
    def f(x: Array, w: None = None) -> Array:
        return np.max(_windows(pad(x, padding, -np.inf), size, stride), axis=-1)

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        """Each u goes to the element that was largest, the first of several."""
        padded = pad(x, padding, -np.inf)
        chosen = np.argmax(_windows(padded, size, stride), axis=-1)

        def vjp(u: Array) -> tuple[Array, None]:
            grad = np.zeros_like(padded)
            for place, offset in enumerate(offsets(x.ndim - 2, size)):
                grad[at(offset, u.shape[1:-1], stride)] += u * (chosen == place)
            return unpad(grad, padding), None

        return vjp

    f.__name__ = "max_pool"
    return f


def average_pool(size: int, stride: int, padding: int, count_padding: bool) -> Function:
    """The mean of each window, over all of it or over what is not padding."""

    def count(x: Array) -> Array | int:
        if count_padding or not padding:
            return size ** (x.ndim - 2)
        ones = np.ones((1, *x.shape[1:-1], 1), dtype=x.dtype)
        return np.sum(_windows(pad(ones, padding), size, stride), axis=-1)

    @Function
    def f(x: Array, w: None = None) -> Array:
        return np.sum(_windows(pad(x, padding), size, stride), axis=-1) / count(x)

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        """Each u, over the count, goes to every element of its window."""

        def vjp(u: Array) -> tuple[Array, None]:
            grad = np.zeros_like(pad(x, padding))
            for offset in offsets(x.ndim - 2, size):
                grad[at(offset, u.shape[1:-1], stride)] += u / count(x)
            return unpad(grad, padding), None

        return vjp

    f.__name__ = "average_pool"
    return f
