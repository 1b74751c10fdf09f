"""The best rates of the machine, measured between the repetitions."""

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
        self.answers: list[dict[str, Any]] = []

    def __call__(self) -> None:
        """One more round's measurements."""
        answer = self._probe()
        if not isinstance(answer, Failure):
            self.answers.append(answer)

    def limits(self) -> Limits:
        """The medians over all rounds."""
        return Limits(_medians(self.answers, "copy"), _medians(self.answers, "matmul"))


def _medians(answers: Sequence[Mapping[str, Any]], kind: str) -> dict[Any, float]:
    rates: dict[Any, list[float]] = {}
    for one in answers:
        for key, rate in one[kind]:
            rates.setdefault(key, []).append(rate)
    return {key: statistics.median(values) for key, values in rates.items()}
