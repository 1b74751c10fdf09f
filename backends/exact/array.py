"""BallArray: an array whose every element is a Ball, whatever NumPy does to it.

A plain object array takes in what it meets: np.maximum(x, 0) leaves ints among balls, np.ones_like gives ints, and an
int over an int is a rounded float. Here operands are lifted before they meet, so that all arithmetic is between balls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flint import arb_mat

from backends.exact.ball import Ball
from backends.problem import Array

_lift = np.frompyfunc(Ball.of, 1, 1)

REPLACED: dict[np.ufunc, np.ufunc] = {
    np.maximum: np.frompyfunc(Ball.maximum, 2, 1),
    np.minimum: np.frompyfunc(Ball.minimum, 2, 1),
    np.sign: np.frompyfunc(Ball.sign, 1, 1),
}
"""Ufuncs that would compare, or return ints, by what does not."""


class BallArray(np.ndarray[Any, Any]):
    """An object array of balls. Made by `lift`."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (), **kwargs: Any
    ) -> Any:
        if method == "at":  # the second operand is an index
            inputs = (_plain(inputs[0]), inputs[1], *map(_operand, inputs[2:]))
            return getattr(ufunc, method)(*inputs)
        if ufunc is np.clip:
            return np.minimum(np.maximum(inputs[0], inputs[1]), inputs[2])
        if ufunc is np.matmul and method == "__call__" and not out:
            return _matmul(*map(lift, inputs))
        if out:
            kwargs["out"] = tuple(map(_plain, out))
        return _view(getattr(REPLACED.get(ufunc, ufunc), method)(*map(_operand, inputs), **kwargs))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Of floats or indices it is a plain array."""
        cast = super().astype(dtype, *args, **kwargs)
        return cast if cast.dtype == object else _plain(cast)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any, kwargs: Any
    ) -> Any:
        if func is np.dot:
            return _dot(*map(lift, args), **kwargs)
        result = super().__array_function__(func, types, args, kwargs)  # type: ignore[arg-type]
        return result if func is np.empty_like else _closed(result)


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
    """An array of balls as one; a ball, indices and truth values as they are."""
    return result.view(BallArray) if getattr(result, "dtype", None) == object else result


def _closed(result: Any) -> Any:
    """A result of NumPy's with balls in the place of the numbers that it brought in."""
    if isinstance(result, tuple | list):
        return type(result)(map(_closed, result))
    return lift(_plain(result)) if getattr(result, "dtype", None) == object else result


def _dot(x: BallArray, w: BallArray) -> Any:
    """The product over the last axis of x and the first of w (in, out), by flint's matrices: one call, not in·out."""
    if x.ndim < 2 or w.ndim != 2:
        return _view(np.dot(_plain(x), _plain(w)))
    return _product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[1])


def _matmul(x: BallArray, w: BallArray) -> BallArray:
    """The products of the matrices in the last two axes of x and w, which have the same others."""
    stacked = zip(x.reshape(-1, *x.shape[-2:]), w.reshape(-1, *w.shape[-2:]), strict=True)
    products = [_product(left, right) for left, right in stacked]
    return lift(np.stack(products)).reshape(*x.shape[:-1], w.shape[-1])


def _product(x: BallArray, w: BallArray) -> BallArray:
    product = np.empty((len(x), w.shape[1]), dtype=object)
    product.flat = [Ball(entry) for entry in (_matrix(x) * _matrix(w)).entries()]
    return product.view(BallArray)


def _matrix(x: BallArray) -> arb_mat:
    return arb_mat(*x.shape, [ball.value for ball in _plain(x).flat])
