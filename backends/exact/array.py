"""BallArray: an array whose every element is a Ball, whatever NumPy does to it.

A plain object array takes in what it meets: np.maximum(x, 0) leaves ints among balls, np.ones_like gives ints, and an
int over an int is a rounded float. Here operands are lifted before they meet, so that all arithmetic is between balls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flint import arb_mat

from lockstep.backends.exact.ball import Ball
from lockstep.backends.problem import Array

_lift = np.frompyfunc(Ball.of, 1, 1)

REPLACED: dict[str, np.ufunc] = {
    "maximum": np.frompyfunc(Ball.maximum, 2, 1),
    "minimum": np.frompyfunc(Ball.minimum, 2, 1),
    "clip": np.frompyfunc(Ball.clip, 3, 1),
    "sign": np.frompyfunc(Ball.sign, 1, 1),
}
"""Ufuncs that would compare, or return ints, and what does not."""


REARRANGING = {np.moveaxis, np.swapaxes, np.sum, np.mean, np.max, np.lib.stride_tricks.sliding_window_view}
"""Functions whose elements are those of their operands, or ufuncs' results: balls already."""


class BallArray(np.ndarray[Any, Any]):
    """An object array of balls. Made by `lift`."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (), **kwargs: Any
    ) -> Any:
        if method == "at":  # the second operand is an index
            inputs = (_plain(inputs[0]), inputs[1], *map(_operand, inputs[2:]))
            return getattr(ufunc, method)(*inputs)
        if ufunc is np.matmul and method == "__call__" and not out:
            return _matmul(*map(lift, inputs))
        if out:
            kwargs["out"] = tuple(map(_plain, out))
        return _view(getattr(REPLACED.get(ufunc.__name__, ufunc), method)(*map(_operand, inputs), **kwargs))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Of floats or indices it is a plain array."""
        cast = super().astype(dtype, *args, **kwargs)
        return cast if _holds_objects(cast) else _plain(cast)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        if func is np.dot:
            return _dot(*map(lift, args), **kwargs)
        if func is np.tensordot:
            return _tensordot(lift(args[0]), lift(args[1]), *args[2:], **kwargs)
        result = super().__array_function__(func, types, args, kwargs)
        if func is np.empty_like:
            return result
        return _view(result) if func in REARRANGING else _closed(result)


def lift(values: Any) -> BallArray:
    """The values, taken exactly, as an array of balls; of the same shape."""
    if isinstance(values, BallArray):
        return values
    lifted = np.empty(np.shape(values), dtype=object)
    lifted[...] = _lift(values)
    return lifted.view(BallArray)


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, BallArray) else array


def _operand(value: Any) -> Any:
    """What an object loop can take: no number is left that is not a ball."""
    if isinstance(value, BallArray):
        return value.view(np.ndarray)
    return value if isinstance(value, Ball) else _lift(value)


def _view(result: Any) -> Any:
    """An array of balls as one, of indices or truth values as a plain one; a ball as it is."""
    return result.view(BallArray) if _holds_objects(result) else _plain(result)


def _closed(result: Any) -> Any:
    """A result of NumPy's with balls in the place of the numbers that it brought in."""
    if isinstance(result, tuple | list):
        return type(result)(map(_closed, result))
    return lift(_plain(result)) if _holds_objects(result) else _plain(result)


def _holds_objects(result: Any) -> bool:
    return isinstance(result, np.ndarray) and result.dtype == object


def _dot(x: BallArray, w: BallArray) -> Any:
    """The product over the last axis of x and the first of w (in, out), by flint's matrices: one call, not in·out."""
    if x.ndim < 2 or w.ndim != 2:
        return _view(np.dot(_plain(x), _plain(w)))
    return _product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[1])


def _tensordot(x: BallArray, w: BallArray, axes: tuple[Sequence[int], Sequence[int]]) -> BallArray:
    """The product over the given axes of each."""
    inner, outer = (list(one) for one in axes)
    left = np.moveaxis(_plain(x), inner, range(-len(inner), 0))
    right = np.moveaxis(_plain(w), outer, range(len(outer)))
    rows, columns = left.shape[: -len(inner)], right.shape[len(outer) :]
    return _product(left.reshape(math.prod(rows), -1), right.reshape(-1, math.prod(columns))).reshape(
        *rows, *columns
    )


def _matmul(x: BallArray, w: BallArray) -> Array:
    """The products of the matrices in the last two axes of x and w, which have the same others."""
    stacked = zip(x.reshape(-1, *x.shape[-2:]), w.reshape(-1, *w.shape[-2:]), strict=True)
    products = [_product(left, right) for left, right in stacked]
    return np.stack(products).reshape(*x.shape[:-1], w.shape[-1])


def _product(x: Array, w: Array) -> BallArray:
    """The product of two matrices."""
    product = np.empty((len(x), w.shape[1]), dtype=object)
    product.reshape(-1)[:] = list(map(Ball, (_matrix(x) * _matrix(w)).entries()))
    return product.view(BallArray)


def _matrix(x: Array) -> arb_mat:
    return arb_mat(x.shape[0], x.shape[1], [ball.value for ball in _plain(x).flat])
