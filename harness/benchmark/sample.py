"""The measurements of one fresh process: one repetition."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One repetition; times in seconds, memory in bytes.

    Attributes:
        started: from asking for the process until the problem was read: interpreter, NumPy, data.
        imported: the backend's import.
        built: its trainer, and the data rounded to the dtype.
        first: the first whole run, compilation included.
        runs: every later whole run.
        result: from asking for the process until the first run's losses and parameters were there.
        before_bytes: resident memory once the backend was imported, the problem in float64 included.
        peak_bytes: the most that was resident after that.
        device_bytes: the most that was allocated on a device with a memory of its own; None where there is none.
        losses: SHA-256 of the last run's losses: repetitions that trained the same have the same.
        environment: what the backend reports about itself.
    """

    started: float
    imported: float
    built: float
    first: float
    runs: tuple[float, ...]
    result: float
    before_bytes: int
    peak_bytes: int
    device_bytes: int | None = None
    losses: str = ""
    environment: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The seconds of a whole run: the median of the runs after the first."""
        return statistics.median(self.runs)

    @property
    def compiled(self) -> float:
        """The seconds by which the first run exceeds the others: compilation, and memory touched for the first time."""
        return max(0.0, self.first - self.seconds)


@dataclass(frozen=True)
class Failure:
    """Why a process measured nothing."""

    reason: str
