"""Convolution over one or two axes, as every framework means it: the window is not flipped."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.ops.windows import at, offsets, pad, slide, unpad
from lockstep.backends.problem import Array


def conv(stride: int, padding: int) -> Function:
    """f(x, W)[n, i, o] = Σ_kc x[n, s i + k, c] W[k, c, o]; x (n, ..., in), W (window, ..., in, out)."""

    @Function
    def f(x: Array, w: Array) -> Array:
        axes = x.ndim - 2
        windows = slide(pad(x, padding), len(w), stride)
        inner = (1 + axes, *range(2 + axes, 2 + 2 * axes))  # channels, then the window
        return np.tensordot(windows, w, axes=(inner, (axes, *range(axes))))

    @f.define_vjp
    def make_vjp(x: Array, w: Array) -> Vjp:
        """J_f(W)ᵀu contracts windows and cotangents over batch and places, as dot's does over the batch.

        J_f(x)ᵀu adds, for each place k of the window, u W[k]ᵀ to the elements that stood there.
        """
        axes, padded = x.ndim - 2, pad(x, padding)

        def vjp(u: Array) -> tuple[Array, Array]:
            outer = tuple(range(1 + axes))  # batch and places
            grad_w = np.tensordot(slide(padded, len(w), stride), u, axes=(outer, outer))
            grad_x = np.zeros_like(padded)
            for offset in offsets(axes, len(w)):
                grad_x[at(offset, u.shape[1:-1], stride)] += np.dot(u, w[offset].T)
            return unpad(grad_x, padding), np.moveaxis(grad_w, 0, axes)

        return vjp

    f.__name__ = f"conv(stride={stride}, padding={padding})"
    return f
