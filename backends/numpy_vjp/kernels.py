"""Kernels: a function's forward and backward pass as calls that write into buffers which are there already.

The functions of `lockstep.backends.numpy_vjp.ops` say what is computed, and a test holds every kernel to them. A kernel says
the same without making an array, for runs whose arrays are small (making them costs more than the arithmetic) or do not
fit a cache (writing and reading them costs more).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.problem import Array

Call = Callable[[], object]


class Kernel(NamedTuple):
    """One function, bound to its input, its parameter and what the parameter's gradient goes to.

    Attributes:
        value: where the output goes.
        forward: calls that write it.
        backward: (the output's cotangent, where the input's goes or None) -> calls that write the gradient and that.
        passes: whether the input's cotangent is the output's, so that nothing is written for it.
    """

    value: Array
    forward: list[Call]
    backward: Callable[[Array, Array | None], list[Call]]
    passes: bool = False


class Arena:
    """Buffers that every block writes anew: the first block makes them, the others get the same ones in the same order."""

    def __init__(self) -> None:
        self._made: list[Array] = []
        self._next = 0

    def begin(self) -> None:
        """Another block: of as many rows as the first, or fewer."""
        self._next = 0

    def like(self, shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> Array:
        """A buffer of that shape; nothing is known of what is in it."""
        if self._next == len(self._made):
            self._made.append(np.empty(shape, dtype))
        self._next += 1
        return self._made[self._next - 1][: shape[0]]


Builder = Callable[[Arena, Array, Array | None, Array | None], Kernel]
"""(buffers, input, parameter, its gradient) -> kernel. The parameter's buffer is updated in place, so the calls hold for all steps."""


def dot(arena: Arena, x: Array, w: Array | None, grad: Array | None) -> Kernel:
    """The product x w; gradient xᵀu, cotangent u wᵀ."""
    assert w is not None
    value = arena.like((len(x), w.shape[1]), x.dtype)

    def backward(u: Array, to: Array | None) -> list[Call]:
        calls: list[Call] = [partial(np.dot, x.T, u, grad)]
        return calls if to is None else [*calls, partial(np.dot, u, w.T, to)]

    return Kernel(value, [partial(np.dot, x, w, value)], backward)


def add(arena: Arena, x: Array, b: Array | None, grad: Array | None) -> Kernel:
    """The sum x + b; gradient the sum of u over the rows, a product with ones; the cotangent is u."""
    assert b is not None
    value = arena.like(x.shape, x.dtype)
    # Of one column it is a number: NumPy would go over the rows one by one to broadcast an axis of length 1.
    shift = b.reshape(()) if b.size == 1 else b
    ones = arena.like((len(x),), x.dtype)
    ones.fill(1)

    def backward(u: Array, to: Array | None) -> list[Call]:
        return [partial(np.dot, ones, u, grad)]

    return Kernel(value, [partial(np.add, x, shift, value)], backward, passes=True)


def relu(arena: Arena, x: Array, w: Array | None, grad: Array | None) -> Kernel:
    """max(x, 0); the cotangent is u where x > 0."""
    value, opened = arena.like(x.shape, x.dtype), arena.like(x.shape, bool)

    def backward(u: Array, to: Array | None) -> list[Call]:
        if to is None:
            return []
        return [partial(np.greater, x, 0, opened), partial(np.multiply, u, opened, to)]

    return Kernel(value, [partial(np.maximum, x, 0, out=value)], backward)


def tanh(arena: Arena, x: Array, w: Array | None, grad: Array | None) -> Kernel:
    """The tanh of x; the cotangent is (1 − tanh² x) u."""
    value, slope = arena.like(x.shape, x.dtype), arena.like(x.shape, x.dtype)

    def backward(u: Array, to: Array | None) -> list[Call]:
        if to is None:
            return []
        return [
            partial(np.multiply, value, value, slope),
            partial(np.subtract, 1, slope, slope),
            partial(np.multiply, u, slope, to),
        ]

    return Kernel(value, [partial(np.tanh, x, value)], backward)


KERNELS: Mapping[str, Sequence[tuple[Builder, str]]] = {
    "dot": ((dot, "w"),),
    "add": ((add, "b"),),
    "linear": ((dot, "w"), (add, "b")),
    "relu": ((relu, ""),),
    "tanh": ((tanh, ""),),
}
"""Layer -> kernels, each with the parameter that it takes."""

LOSSES = {"squared_error": 1.0, "half_squared_error": 0.5}
"""Losses that are a multiple of the sum of squared errors."""
