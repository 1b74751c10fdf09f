"""Special functions that NumPy lacks: SciPy's over floats, the number type's own methods over objects.

NumPy's own functions need no help: over an object array np.exp, np.log1p, np.tanh … call the elements' methods
of that name, and np.maximum, np.sign, np.where follow their comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # whose `special`, a third of a second, is imported where a function of it is first called

from lockstep.backends.problem import Array


def is_smooth(x: Array) -> bool:
    """Whether the elements neither overflow nor have an order always, as balls: the plain formula is the right one."""
    return is_object(x) and hasattr(x.flat[0], "maximum")


def is_object(x: Array) -> bool:
    """Whether the elements, or x itself as a loss is, are objects with their own arithmetic rather than floats.

    What has a dtype is asked for it: twins are no NumPy array, and must not be made one. A lone ball or rational has none.
    """
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    return bool(np.dtype(object) == dtype)


def negative_part(x: Array) -> Array:
    """min(x, 0), whose zeros are of the elements' own type: a plain 0 has no expm1."""
    part: Array = np.minimum(x, 0 * x if is_object(x) else 0)
    return part


def erfc(x: Array) -> Array:
    """The complementary error function 1 − erf(x), accurate where erf(x) is near 1."""
    if is_object(x):
        values: Any = np.frompyfunc(lambda value: value.erfc(), 1, 1)(x)
        return values
    smooth: Array = scipy.special.erfc(x)
    return smooth


def bell(x: Array) -> Array:
    """e^(−x²/2). Rounding x² alone would cost x²/2 ULP, 700 before the value underflows.

    Of x = h + l with h the nearest sixteenth, h²/2 is exact and (x² − h²)/2 = l(x + h)/2 is small.
    """
    if is_object(x):
        return np.exp(-0.5 * x * x)
    x = np.clip(x, -40, 40)  # 0 beyond, in float64 too; x² could overflow
    high = np.rint(16 * x) / 16
    return np.exp(-0.5 * high * high) * np.exp(-0.5 * (x - high) * (x + high))


def normal_cdf(x: Array) -> Array:
    """Φ(x) = erfc(−x/√2)/2; left of −1 as e^(−x²/2) erfcx(−x/√2)/2.

    There erfc would multiply the rounding of its argument by x²; erfcx(z) = e^z² erfc(z) hardly varies.
    """
    if is_object(x):
        return 0.5 * erfc(-x / np.sqrt(0 * x + 2))
    tail = 0.5 * bell(x) * scipy.special.erfcx(np.maximum(-x, 0) * math.sqrt(0.5))
    cdf: Array = np.where(x < -1, tail, 0.5 * erfc(-x * math.sqrt(0.5)))
    return through(cdf, 1.0)


def _of_number(name: str) -> Callable[[Any], Any]:
    """Math's function of a float, in double whatever the dtype; of an object its own method."""

    def f(x: Any) -> Any:
        return getattr(x, name)() if hasattr(x, name) else getattr(math, name)(x)

    return f


sqrt, log, cos = (_of_number(name) for name in ("sqrt", "log", "cos"))


def complement(s: Any) -> Any:
    """S where some take 1 − s instead, which rounds by u of 1: itself, but numbers that model rounding model that."""
    return s.as_complement() if hasattr(s, "as_complement") else s


def through(value: Array, size: Any) -> Array:
    """A value that frameworks get from numbers as large as `size`, which cancel: itself, and to twins off by their rounding.

    `tests/backends/accuracy_tails.py` lists which frameworks do so where.
    """
    return value.through(size) if hasattr(value, "through") else value


def at_least(floor: float, x: Any) -> Any:
    """max(floor, x) of two numbers, by x's own `maximum` if it has one: two balls may have no order."""
    return x.maximum(floor) if hasattr(x, "maximum") else max(floor, x)


def at_most(ceiling: float, x: Any) -> Any:
    """min(ceiling, x), likewise."""
    return x.minimum(ceiling) if hasattr(x, "minimum") else min(ceiling, x)


def like(x: Array, value: float) -> Any:
    """`value` as a number like the elements of x: itself for floats, so that it takes their dtype."""
    return 0 * x.flat[0] + value if is_object(x) else value


def one(x: Array) -> Array:
    """1 as a number like x: of an object NumPy would make an int, and an int over an int is a rounded float."""
    return 0 * x + 1 if is_object(x) else np.ones_like(x)


def pi(x: Any) -> Any:
    """π as a number like x, or like its elements."""
    number = x.flat[0] if isinstance(x, np.ndarray) and is_object(x) else x
    return number.pi() if hasattr(number, "pi") else math.pi


def eps(x: Array) -> float:
    """The distance from 1 to the next number of the problem's dtype."""
    return float(x.flat[0].eps if is_object(x) else np.finfo(x.dtype).eps)


def largest(x: Array) -> Array:
    """The maximum over the last axis, kept; of balls by whole numbers near them: they may have no order."""
    if is_smooth(x):
        x = np.rint(x.astype(float)).astype(object)
    return np.max(x, axis=-1, keepdims=True)
