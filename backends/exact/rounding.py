"""From balls to floats: rounded once, to the nearest number of the dtype."""

from __future__ import annotations

import numpy as np
from flint import arb

from lockstep.backends.exact.ball import Ball
from lockstep.backends.problem import Array

KEPT = {"float32": 30, "float64": 60}
"""Bits kept before the rounding to the dtype, the last of them sticky: at least two more than the significand has."""


def rounded(values: object, dtype: str) -> Array:
    """The midpoints, each rounded once, to nearest, ties to even; what is no ball is converted.

    Args:
        values: a ball, an array of balls, or numbers.
        dtype: ``float64`` or ``float32``.
    """
    array = np.asarray(values)
    if array.dtype != object:
        return array.astype(dtype)
    near = np.array([_nearest(ball, dtype) for ball in array.flat], np.float64)
    with np.errstate(over="ignore", under="ignore"):
        return near.astype(dtype).reshape(array.shape)


def _nearest(ball: Ball, dtype: str) -> float:
    """The midpoint as a number of the dtype, or as a double from which the conversion rounds as from the midpoint.

    A rounding to double and then to single would round twice. So bits are cut to some more than the dtype has, and the
    last one is set if anything was lost: no such number lies on a tie that the midpoint does not lie on.
    """
    middle = Ball.of(ball).value.mid()
    if not middle.is_finite():
        return float(middle)
    significand, exponent = map(int, middle.man_exp())
    excess = abs(significand).bit_length() - KEPT[dtype]
    if excess > 0:
        sticky = int(abs(significand) & ((1 << excess) - 1) != 0)
        cut = (abs(significand) >> excess) | sticky
        significand, exponent = (cut if significand > 0 else -cut), exponent + excess
    return _scaled(significand, exponent)


def _scaled(significand: int, exponent: int) -> float:
    """Significand·2^exponent as a double, rounded once (quotients of ints are)."""
    try:
        return float(significand << exponent) if exponent >= 0 else significand / (1 << -exponent)
    except OverflowError:
        return float("inf") if significand > 0 else -float("inf")


def exponent(value: arb) -> float:
    """E with 2^(e−1) ≤ |midpoint| < 2^e; −inf for 0, inf where there is no finite one."""
    middle = value.mid()
    if not middle.is_finite():
        return float("inf")
    significand, power = middle.man_exp()
    return float(abs(int(significand)).bit_length() + int(power)) if significand else -float("inf")
