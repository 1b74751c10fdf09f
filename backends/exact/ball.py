"""Ball: a real number known to lie within a radius of a midpoint, python-flint's `arb` (Johansson, 2017).

Every operation returns a ball that holds every result of numbers in its operands, rounding included; so a formula run
over balls encloses its true value. Functions bear NumPy's names, which ufuncs call on the elements of object arrays.

On balls that overlap flint's <, > and == all say False. Here a comparison that the balls do not decide raises
`Undecided`: it never guesses. Functions that are continuous where their branches meet (|x|, max, min) need no decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from flint import arb, ctx

from lockstep.backends.errors import UndecidedError

Operand = Any
"""A Ball, or a Python or NumPy real number, which is taken exactly."""


class Undecided(UndecidedError):  # noqa: N818 (a state of knowledge, not a fault)
    """The balls are too wide, or the numbers too close, to decide."""


def undecided(what: str, got: str) -> Undecided:
    """The error about it."""
    return Undecided(
        f"{what} is not decided", got, "raise the precision; it will never separate two equal numbers"
    )


@contextmanager
def working(bits: int, eps: float = float(np.finfo(np.float64).eps)) -> Iterator[None]:
    """Balls have midpoints of that many bits, and `Ball.eps` is that of the problem's dtype, for the time being."""
    before = ctx.prec, Ball.eps
    ctx.prec, Ball.eps = bits, eps
    try:
        yield
    finally:
        ctx.prec, Ball.eps = before


class Ball:
    """An enclosure of one real number.

    Operators are written out, and lift the other operand only where it turns out to be no ball: they are what the
    time goes into.

    Attributes:
        value: flint's ball.
        eps: the distance from 1 to the next number of the problem's dtype, which some formulas ask for.
    """

    __slots__ = ("value",)

    eps: ClassVar[float] = float(np.finfo(np.float64).eps)

    def __init__(self, value: arb) -> None:
        self.value = value

    @staticmethod
    def of(number: Operand) -> Ball:
        """The number as a ball, exactly.

        Raises:
            TypeError: it is no real number.
        """
        if type(number) is float:  # first: whole arrays pass here
            return Ball(arb(number))
        if type(number) is Ball:
            return number
        if isinstance(number, float | np.floating):
            return Ball(arb(float(number)))
        if isinstance(number, int | np.integer | np.bool):
            return Ball(arb(int(number)))
        if isinstance(number, np.ndarray) and number.ndim == 0:
            return Ball.of(number.item())
        raise TypeError(f"no real number: {number!r} ({type(number).__name__})")

    def __repr__(self) -> str:
        return f"Ball({self.value.str(20)})"

    def __add__(self, other: Operand) -> Ball:
        try:
            return Ball(self.value + other.value)
        except AttributeError:
            return NotImplemented if _foreign(other) else self + Ball.of(other)

    def __radd__(self, other: Operand) -> Ball:
        return Ball.of(other) + self

    def __sub__(self, other: Operand) -> Ball:
        try:
            return Ball(self.value - other.value)
        except AttributeError:
            return NotImplemented if _foreign(other) else self - Ball.of(other)

    def __rsub__(self, other: Operand) -> Ball:
        return Ball.of(other) - self

    def __mul__(self, other: Operand) -> Ball:
        try:
            return Ball(self.value * other.value)
        except AttributeError:
            return NotImplemented if _foreign(other) else self * Ball.of(other)

    def __rmul__(self, other: Operand) -> Ball:
        return Ball.of(other) * self

    def __truediv__(self, other: Operand) -> Ball:
        try:
            return Ball(self.value / other.value)
        except AttributeError:
            return NotImplemented if _foreign(other) else self / Ball.of(other)

    def __rtruediv__(self, other: Operand) -> Ball:
        return Ball.of(other) / self

    def __pow__(self, exponent: Operand) -> Ball:
        if type(exponent) is int:
            return Ball(self.value**exponent)
        return NotImplemented if _foreign(exponent) else Ball(self.value ** Ball.of(exponent).value)

    def __rpow__(self, base: Operand) -> Ball:
        return Ball.of(base) ** self

    def __neg__(self) -> Ball:
        return Ball(-self.value)

    def __pos__(self) -> Ball:
        return self

    def __abs__(self) -> Ball:
        return Ball(abs(self.value))

    def __lt__(self, other: Operand) -> bool:
        x, y = self.value, Ball.of(other).value
        return self._decided(x < y, x >= y, other)

    def __ge__(self, other: Operand) -> bool:
        return not self < other

    def __gt__(self, other: Operand) -> bool:
        x, y = self.value, Ball.of(other).value
        return self._decided(x > y, x <= y, other)

    def __le__(self, other: Operand) -> bool:
        return not self > other

    def __eq__(self, other: object) -> bool:
        x, y = self.value, Ball.of(other).value
        return self._decided(x == y, x != y, other)

    __hash__ = None  # type: ignore[assignment]

    def _decided(self, holds: bool, fails: bool, other: Operand) -> bool:
        if holds or fails:
            return holds
        raise undecided("a comparison", f"{self!r} and {Ball.of(other)!r}")

    def __bool__(self) -> bool:
        return self != 0

    def __float__(self) -> float:
        """Near the midpoint; `rounding` says how to round once."""
        return float(self.value)

    def __int__(self) -> int:
        whole = self.value.unique_fmpz()
        if whole is None or not self.value.is_exact():
            raise undecided("a whole number", repr(self))
        return int(whole)

    def maximum(self, other: Operand) -> Ball:
        """max(x, y), whichever it is."""
        return Ball(self.value.max(Ball.of(other).value))

    def minimum(self, other: Operand) -> Ball:
        """min(x, y), whichever it is."""
        return Ball(self.value.min(Ball.of(other).value))

    def clip(self, low: Operand, high: Operand) -> Ball:
        """min(max(x, low), high), whichever it is."""
        return self.maximum(low).minimum(high)

    def sign(self) -> Ball:
        """−1, 0 or 1; 0 for exactly 0."""
        return Ball(arb(int(self > 0) - int(self < 0)))

    def conjugate(self) -> Ball:
        return self

    def exp(self) -> Ball:
        return Ball(self.value.exp())

    def expm1(self) -> Ball:
        return Ball(self.value.expm1())

    def log(self) -> Ball:
        return Ball(self.value.log())

    def log1p(self) -> Ball:
        return Ball(self.value.log1p())

    def sqrt(self) -> Ball:
        return Ball(self.value.sqrt())

    def tanh(self) -> Ball:
        return Ball(self.value.tanh())

    def cos(self) -> Ball:
        return Ball(self.value.cos())

    def arctan(self) -> Ball:
        return Ball(self.value.atan())

    def erfc(self) -> Ball:
        return Ball(self.value.erfc())

    def pi(self) -> Ball:
        return Ball(arb.pi())


def _foreign(other: object) -> bool:
    """Whether another type's operator is to be asked: an array takes a ball as one of its elements."""
    return isinstance(other, np.ndarray)
