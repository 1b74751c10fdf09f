"""Enclosure: the true trajectory within balls, and how far a backend's is from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backends.exact.array import BallArray, lift
from backends.exact.ball import Ball, working
from backends.exact.precision import scales
from backends.exact.rounding import rounded
from backends.numpy_vjp.backend import State
from backends.problem import Array
from backends.protocol import Trace


@dataclass(frozen=True)
class Attempt:
    """One run at one precision.

    Attributes:
        bits: the working precision.
        steps: how many were taken.
        seconds: what it took.
        outcome: ``enclosed``, ``too wide``, or which comparison was not decided.
    """

    bits: int
    steps: int
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Enclosure:
    """The trajectory of a problem: its inputs as rounded to its dtype, then no rounding.

    Attributes:
        losses: (steps,).
        final: the state after the last step; its arrays hold balls.
        history: the parameters before the first epoch and after each, where that was asked for.
        dtype: of the problem.
        attempts: what it took; the last one gave this.
    """

    losses: BallArray
    final: State
    history: tuple[dict[str, Array], ...]
    dtype: str
    attempts: tuple[Attempt, ...]

    @property
    def bits(self) -> int:
        """The working precision."""
        return self.attempts[-1].bits

    @property
    def parameters(self) -> dict[str, Array]:
        """After the last step, by canonical name."""
        return self.final.parameters

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return sum(attempt.seconds for attempt in self.attempts)


@dataclass(frozen=True)
class Errors:
    """How far a trace is from the truth, in ULPs of the problem's dtype; never negative.

    One ULP is the distance between neighbours at the scale: for a loss max(|loss|, |first loss|), for a parameter the
    largest magnitude in its leaf (`precision.scales`). To these scales the truth is known to 2⁻⁸ ULP of a double.

    Attributes:
        losses: (steps,).
        parameters: those after the last step, by canonical name, each in its leaf's shape.
    """

    losses: Array
    parameters: dict[str, Array]


def errors_in_ulps(trace: Trace, enclosure: Enclosure) -> Errors:
    """The error of a trace at every step and in every final parameter.

    Args:
        trace: of any backend, of the problem that `enclosure` is of, in the same dtype.
        enclosure: the truth.

    Raises:
        ValueError: the trace has other steps or parameters than the enclosure.
    """
    final = trace.final.parameters
    if len(trace.losses) != len(enclosure.losses) or final.keys() != enclosure.parameters.keys():
        raise ValueError(
            f"the trace has {len(trace.losses)} losses of {', '.join(final)}, "
            f"the enclosure {len(enclosure.losses)} of {', '.join(enclosure.parameters)}"
        )
    with working(enclosure.bits):
        true = rounded(abs(enclosure.losses), enclosure.dtype)
        of_leaf = scales(enclosure.parameters)
        return Errors(
            _ulps(trace.losses, enclosure.losses, np.maximum(true, true[0])),
            {
                name: _ulps(final[name], value, rounded(Ball(of_leaf[name]), enclosure.dtype))
                for name, value in enclosure.parameters.items()
            },
        )


def _ulps(found: Array, truth: Array, scale: Array) -> Array:
    """|found − truth| in ULPs of the scale."""
    return rounded(abs(lift(found) - truth), "float64") / np.spacing(scale).astype("float64")
