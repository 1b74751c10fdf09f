"""Dual numbers a + b ε with ε² = 0: forward-mode differentiation over the same forward functions.

An object array of duals goes through any `Function` unchanged, and its ε-part is the Jacobian-vector product.
It uses no VJP, so the adjoint identity uᵀ(Jv) = (Jᵀu)ᵀv tests the hand-written VJPs against something else.
One Python object an element: for checking and learning, not for speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.problem import Array

Number = Any
"""A real number: Python float, NumPy scalar, or any type with the usual operators."""


class Dual:
    """value + tangent·ε."""

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
