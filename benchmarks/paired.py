"""Ratios of functions that do the same job, measured in one run: warmed up, interleaved, results awaited."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def interleaved(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each candidate; each is warmed up once, and in a round all go in turn."""
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], left: str, right: str) -> tuple[float, float, float]:
    """Median of the rounds' ratios left / right, and their quartiles: the machine's drift hits both of a pair."""
    ratios = [a / b for a, b in zip(seconds[left], seconds[right], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return median, low, high


def same(candidates: Mapping[str, Callable[[], Sequence[object]]], rtol: float) -> None:
    """That all candidates give the same arrays, or an AssertionError: a ratio of unlike jobs says nothing."""
    first, *others = [run() for run in candidates.values()]
    for other in others:
        for left, right in zip(first, other, strict=True):
            scale = np.abs(np.asarray(left, np.float64)).max()
            np.testing.assert_allclose(np.asarray(right, np.float64), left, rtol=rtol, atol=rtol * scale)
