"""What the machine does at best, measured between the repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep.harness.benchmark.sample import Failure


@dataclass(frozen=True)
class Limits:
    """Medians over the rounds.

    Attributes:
        copy: bytes a second, read and written, by bytes of data.
        matmul: floating-point operations a second, by dtype.
    """

    copy: Mapping[int, float] = field(default_factory=dict)
    matmul: Mapping[str, float] = field(default_factory=dict)


class Prober:
    """Measures once a round, in a process of its own; a failure leaves a gap."""

    def __init__(self, probe: Callable[[], dict[str, Any] | Failure]) -> None:
        self._probe = probe
        self.found: list[dict[str, Any]] = []

    def __call__(self) -> None:
        """One more round's measurements."""
        told = self._probe()
        if not isinstance(told, Failure):
            self.found.append(told)

    def limits(self) -> Limits:
        """What all rounds together say."""
        return Limits(_medians(self.found, "copy"), _medians(self.found, "matmul"))


def _medians(found: Sequence[Mapping[str, Any]], kind: str) -> dict[Any, float]:
    rates: dict[Any, list[float]] = {}
    for one in found:
        for key, rate in one[kind]:
            rates.setdefault(key, []).append(rate)
    return {key: statistics.median(values) for key, values in rates.items()}
