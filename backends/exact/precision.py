"""How many bits a trajectory needs, predicted from the bits that it was observed to lose."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

from flint import arb

from lockstep.backends.exact.ball import Ball
from lockstep.backends.exact.rounding import exponent
from lockstep.backends.problem import Array

TARGET = 60
"""An enclosure's radius is at most 2^−TARGET of its scale: 2⁻⁸ ULP of a double at it."""

FIRST = 128
"""Bits of the first attempt: enough for ten steps of most problems, and to see the rate at which bits are lost."""

MARGIN = 16
"""Bits beyond those predicted; besides an eighth of what was not observed but extrapolated, for a rate that grows."""


def accuracy(balls: Iterable[Ball], scale: arb) -> float:
    """−log₂ of the largest radius over the scale, never too large and too small by few bits (radii are summed).

    Args:
        balls: what is enclosed.
        scale: what the radii are compared with.

    Returns:
        inf if all are exact, −inf if one has no finite radius or the scale is 0.
    """
    values = [ball.value for ball in balls]
    widest = sum((value.rad() for value in values), arb(0))
    if not (widest.is_finite() and scale.is_finite()):
        return -math.inf
    return math.inf if widest.is_zero() else exponent(scale) - 1 - exponent(widest)


def largest(values: Iterable[arb]) -> arb:
    """The largest of the midpoints' magnitudes."""
    return functools.reduce(arb.max, (abs(value.mid()) for value in values))


def scales(leaves: Mapping[str, Array]) -> dict[str, arb]:
    """What the radii in each leaf are compared with: its largest magnitude.

    A leaf of which no element is known to differ from 0 (its gradient is 0 in truth, as that of attention's key bias)
    has no magnitude of its own, and is given the largest of all.
    """
    values = {name: [ball.value for ball in leaf.flat] for name, leaf in leaves.items()}
    own = {name: largest(leaf) for name, leaf in values.items()}
    overall = largest(own.values())
    return {name: overall if all(0 in one for one in leaf) else own[name] for name, leaf in values.items()}


def predicted(lost_bits: Sequence[float], steps: int) -> int:
    """The working precision at which the last of `steps` steps still has TARGET bits.

    Radii grow by a factor a step, so bits are lost at a rate. It is taken from the second half of what was observed, where
    the transient of the start has died down.

    Args:
        lost_bits: at step 1, 2, … as far as was observed.
        steps: of the whole run.
    """
    if not lost_bits:
        return 2 * FIRST
    observed, half = len(lost_bits), len(lost_bits) // 2
    rate = max(0.0, (lost_bits[-1] - lost_bits[half]) / max(1, observed - 1 - half))
    extrapolated = rate * max(0, steps - observed)
    return math.ceil(TARGET + max(lost_bits) + extrapolated + extrapolated / 8 + MARGIN)
