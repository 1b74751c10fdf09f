"""How long to measure, and when it is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.backends.errors import LockstepError
from lockstep.harness.benchmark.interval import summarise
from lockstep.harness.benchmark.proof import EPOCHS
from lockstep.harness.benchmark.sample import Sample

LONGEST = 1e6
"""Seconds: twelve days; the system's own clocks hold no number."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        width: how wide an interval may be as a share of its median; None where there is no such request.
        limit: seconds for all repetitions together.
        most: repetitions of each; None for as many as the width needs.
        seconds: for how long a process repeats its run.
        epochs: that are verified at most.
    """

    width: float | None = 0.1
    limit: float = 300.0
    most: int | None = None
    seconds: float = 0.3
    epochs: int = EPOCHS

    def enough(self, samples: Sequence[Sample]) -> bool:
        """Whether these repetitions suffice."""
        if self.most is not None and len(samples) >= self.most:
            return True
        return self.width is not None and summarise([one.seconds for one in samples]).within(self.width)

    @classmethod
    def of(cls, width: float, limit: float, quick: bool) -> Effort:
        """The requested effort.

        Raises:
            LockstepError: a number is out of range.
        """
        if not 0 < width < 1:
            raise LockstepError(
                "width is not a share of the median", repr(width), "give a number between 0 and 1, as 0.1"
            )
        if not 0 < limit <= LONGEST:
            raise LockstepError(
                "time_limit is not a time", repr(limit), f"give seconds > 0, {LONGEST:g} at most"
            )
        return cls(None, limit, 2, 0.1, 10) if quick else cls(width, limit)
