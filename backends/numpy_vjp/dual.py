"""Dual numbers a + b ε with ε² = 0: forward-mode differentiation over the same forward functions.

An object array of duals goes through any `Function` unchanged, and its ε-part is the Jacobian-vector product.
It uses no VJP, so the adjoint identity uᵀ(Jv) = (Jᵀu)ᵀv tests the hand-written VJPs against something else.
One Python object an element: for checking and learning, not for speed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lockstep.backends.numpy_vjp.special import erfc
from lockstep.backends.problem import Array

Number = Any
"""A real number: Python float, NumPy scalar, or any type with the usual operators."""


class Dual:
    """value + tangent·ε, ordered by the value.

    The named functions are those that NumPy's ufuncs call on the elements of an object array. A value may be any
    number that np.exp and the like take: a float, or an object with methods of its own.
    """

    __slots__ = ("tangent", "value")

    def __init__(self, value: Number, tangent: Number = 0) -> None:
        self.value = value
        self.tangent = tangent

    def __repr__(self) -> str:
        return f"Dual({self.value!r}, {self.tangent!r})"

    def __add__(self, other: Dual | Number) -> Dual:
        other = _dual(other)
        return Dual(self.value + other.value, self.tangent + other.tangent)

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent)

    def __sub__(self, other: Dual | Number) -> Dual:
        return self + (-_dual(other))

    def __rsub__(self, other: Number) -> Dual:
        return _dual(other) + (-self)

    def __mul__(self, other: Dual | Number) -> Dual:
        other = _dual(other)
        return Dual(self.value * other.value, self.value * other.tangent + self.tangent * other.value)

    __rmul__ = __mul__

    def __truediv__(self, other: Dual | Number) -> Dual:
        other = _dual(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.tangent - quotient * other.tangent) / other.value)

    def __rtruediv__(self, other: Number) -> Dual:
        return _dual(other) / self

    def __pow__(self, exponent: float) -> Dual:
        slope = exponent * self.value ** (exponent - 1) if exponent else 0
        return Dual(self.value**exponent, slope * self.tangent)

    def __lt__(self, other: Dual | Number) -> bool:
        return bool(self.value < _dual(other).value)

    def __le__(self, other: Dual | Number) -> bool:
        return bool(self.value <= _dual(other).value)

    def __gt__(self, other: Dual | Number) -> bool:
        return bool(self.value > _dual(other).value)

    def __ge__(self, other: Dual | Number) -> bool:
        return bool(self.value >= _dual(other).value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _dual(other).value)

    __hash__ = None  # type: ignore[assignment]

    def __abs__(self) -> Dual:
        """|a|; the derivative at 0 is 0."""
        return Dual(abs(self.value), (int(self.value > 0) - int(self.value < 0)) * self.tangent)

    def exp(self) -> Dual:
        value = np.exp(self.value)
        return Dual(value, value * self.tangent)

    def expm1(self) -> Dual:
        return Dual(np.expm1(self.value), np.exp(self.value) * self.tangent)

    def log(self) -> Dual:
        return Dual(np.log(self.value), self.tangent / self.value)

    def log1p(self) -> Dual:
        return Dual(np.log1p(self.value), self.tangent / (1 + self.value))

    def sqrt(self) -> Dual:
        root = np.sqrt(self.value)
        return Dual(root, self.tangent / (2 * root))

    def tanh(self) -> Dual:
        value = np.tanh(self.value)
        return Dual(value, (1 - value * value) * self.tangent)

    def erfc(self) -> Dual:
        slope = -2 / math.sqrt(math.pi) * np.exp(-self.value * self.value)
        return Dual(erfc(self.value), slope * self.tangent)


def _dual(number: Dual | Number) -> Dual:
    return number if isinstance(number, Dual) else Dual(number)


def to_dual(value: Array, tangent: Array) -> Array:
    """An object array of duals from two arrays of one shape."""
    value, tangent = np.broadcast_arrays(value, tangent)
    out = np.empty(value.shape, dtype=object)
    for index in np.ndindex(value.shape):
        out[index] = Dual(value[index], tangent[index])
    return out


def tangents(duals: Array | Dual, dtype: Any) -> Array:
    """The ε-parts of duals; zero for a plain number among them."""
    array = np.asarray(duals, dtype=object)
    out = np.empty(array.shape, dtype=dtype)
    for index in np.ndindex(array.shape):
        out[index] = _dual(array[index]).tangent
    return out
