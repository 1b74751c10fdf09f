"""Enclosure: the true trajectory within balls, and how far a backend's is from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lockstep.backends.exact.array import BallArray, lift
from lockstep.backends.exact.ball import Ball, working
from lockstep.backends.exact.precision import scales
from lockstep.backends.exact.rounding import rounded
from lockstep.backends.numpy_vjp.backend import State
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Errors, Trace


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

    def errors(self, trace: Trace) -> Errors:
        """How far a trace is from this one; to the scales of `Errors` it is known to 2⁻⁸ ULP of a double.

        Args:
            trace: of any backend, of the same problem in the same dtype.

        Raises:
            ValueError: the trace has other steps or parameters.
        """
        final = trace.final.parameters
        self._check({"losses": trace.losses, **final})
        with working(self.bits):
            true = rounded(abs(self.losses), self.dtype)
            of_leaf = scales(self.parameters)
            return Errors(
                _ulps(trace.losses, self.losses, np.maximum(true, true[0])),
                {
                    name: _ulps(final[name], value, rounded(Ball(of_leaf[name]), self.dtype))
                    for name, value in self.parameters.items()
                },
            )

    def _check(self, computed: Mapping[str, Array]) -> None:
        wanted = {name: value.shape for name, value in {"losses": self.losses, **self.parameters}.items()}
        shapes = {name: value.shape for name, value in computed.items()}
        if shapes != wanted:
            raise ValueError(f"the trace has {shapes}, the enclosure {wanted}")


def _ulps(computed: Array, truth: Array, scale: Array) -> Array:
    """|computed − truth| in ULPs of the scale."""
    return rounded(abs(lift(computed) - truth), "float64") / np.spacing(scale).astype("float64")
