"""Tolerances: the largest distance that counts as equal, and where that number comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array


class ToleranceError(LockstepError):
    """A tolerance that is not a number, or under which nothing could fail."""


class Judge(Protocol):
    """Decides whether a distance is too large: a `Tolerance`, or a budget measured on the problem."""

    @property
    def rtol(self) -> float:
        """As of a `Tolerance`; 0 where there is none."""

    @property
    def atol(self) -> float:
        """As of a `Tolerance`; 0 where there is none."""

    @property
    def scaled(self) -> bool:
        """As of a `Tolerance`."""

    @property
    def kind(self) -> str:
        """``budget``, ``fixed`` or ``given``."""

    @property
    def source(self) -> str:
        """Where the numbers come from, in words."""

    def scale(self, left: Array, is_loss: bool) -> Array:
        """The scale that distances are relative to."""

    def limit(self, quantity: str, scale: Array) -> Array:
        """The largest distance that passes."""

    def uninformative(self, quantity: str, scale: Array) -> Array:
        """Where the limit is so wide that no difference would be detected."""


@dataclass(frozen=True)
class Tolerance:
    """Equal means |left − right| ≤ atol + rtol·scale.

    Attributes:
        rtol, atol: the two numbers.
        scaled: True: the scale of a loss is max(|loss|, |first loss|), the scale of a parameter the largest
            magnitude in its leaf, so that no value near zero needs a precision that the arithmetic
            behind it cannot have. False: the scale is |left|, element by element, as in `numpy.allclose`.
        source: where the numbers come from, in words.
        kind: ``fixed``, or ``given`` by the user.

    Raises:
        ToleranceError: a number is negative or not finite, or rtol is 1 or more.
    """

    rtol: float
    atol: float
    scaled: bool
    source: str
    kind: str = "fixed"

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not math.isfinite(value) or value < 0:
                raise ToleranceError(f"{name} is not a tolerance", repr(value), "give a finite number >= 0")
        if self.rtol >= 1:
            raise ToleranceError(
                "rtol is so wide that zero would pass for any value", repr(self.rtol), "give a number below 1"
            )

    def scale(self, left: Array, is_loss: bool) -> Array:
        """The factor of rtol, an array of left's shape, float64."""
        return scaled(left, is_loss) if self.scaled else np.abs(left.astype(np.float64))

    def limit(self, quantity: str, scale: Array) -> Array:
        """The largest distance that passes, element by element."""
        limit: Array = self.atol + self.rtol * scale
        return limit

    def uninformative(self, quantity: str, scale: Array) -> Array:
        """Nowhere: a fixed tolerance that could detect nothing is refused when it is made."""
        return np.zeros(scale.shape, dtype=bool)


@dataclass(frozen=True)
class AtLeast:
    """A judge whose scale has a least value: of arrays that are computed together, the largest of all of them.

    Attributes:
        judge: the judge.
        least: the least scale.
        counterpart: what the other side calls the quantity, where that is another name: the larger limit of both is meant.
    """

    judge: Judge
    least: float
    counterpart: str = ""

    @property
    def rtol(self) -> float:
        """The judge's."""
        return self.judge.rtol

    @property
    def atol(self) -> float:
        """The judge's."""
        return self.judge.atol

    @property
    def scaled(self) -> bool:
        """The judge's."""
        return self.judge.scaled

    @property
    def kind(self) -> str:
        """The judge's."""
        return self.judge.kind

    @property
    def source(self) -> str:
        """The judge's."""
        return self.judge.source

    def scale(self, left: Array, is_loss: bool) -> Array:
        """The judge's, but no less than `least`."""
        return self.judge.scale(left, is_loss).clip(min=self.least)

    def limit(self, quantity: str, scale: Array) -> Array:
        """The judge's."""
        limits = [self.judge.limit(name, scale) for name in (quantity, self.counterpart or quantity)]
        return np.maximum(*limits)

    def uninformative(self, quantity: str, scale: Array) -> Array:
        """The judge's."""
        names = quantity, self.counterpart or quantity
        return np.logical_or(*(self.judge.uninformative(name, scale) for name in names))


def scaled(left: Array, is_loss: bool) -> Array:
    """max(|loss|, |first loss|) of losses, of anything else the largest magnitude, of left's shape."""
    magnitude: Array = np.abs(left.astype(np.float64))
    return magnitude.clip(min=magnitude.flat[0] if is_loss else magnitude.max())


KINDS = ("budget", "fixed")
"""Where a tolerance comes from that the user does not give: measured on the problem, or the same for all."""

EXACT = Tolerance(0.0, 0.0, False, "exact: whole numbers")
"""Of counters and switches, in which nothing is rounded."""

FIXED: Mapping[str, Tolerance] = {
    # Measured on the seed problem over 10, 1,000 and 20,000 epochs, the three backends pairwise: at most 6e-17
    # for losses and 1.9e-15 for parameters. 1e-14 is 45 units of rounding (eps = 2.2e-16): enough for another
    # order of summation over tens of terms, an order of magnitude under any change of the mathematics.
    "float64": Tolerance(1e-14, 0.0, True, "fixed for float64: 45 eps"),
    # Measured likewise: at most 7e-8 for losses and 6.2e-7 for parameters. The same 45 units (eps = 1.2e-7).
    "float32": Tolerance(5.4e-6, 0.0, True, "fixed for float32: 45 eps"),
}


def choose(
    dtype: str, rtol: float | None = None, atol: float | None = None, kind: str = "fixed"
) -> Tolerance | None:
    """The user's tolerance if there is one (a missing number is 0), the dtype's fixed one, or None: to be measured.

    Raises:
        ToleranceError: `kind` is none of KINDS.
    """
    if kind not in KINDS:
        raise ToleranceError("unknown kind of tolerance", repr(kind), f"give {' or '.join(KINDS)}")
    if rtol is None and atol is None:
        return FIXED[dtype] if kind == "fixed" else None
    return Tolerance(rtol or 0.0, atol or 0.0, False, "given by the user", "given")
