"""The epochs that a table or a curve shows of a run with more epochs than a page holds."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array


def shown_epochs(epochs: int, limit: int = 20) -> list[int | None]:
    """All epochs, or the first and last ones around a None that stands for those left out."""
    if epochs <= limit:
        return list(range(epochs))
    half = limit // 2
    return [*range(half), None, *range(epochs - half, epochs)]


STRETCHES = 100
"""Parts of a long curve of which each keeps its extremes."""


def extremes(values: Array, buckets: int = STRETCHES) -> Array:
    """Indices of a curve's points that are drawn: all, or in each of equally long stretches the least and the largest.

    The first and the last stay as well, and in each stretch the first that is not a number, so that no extreme
    and no gap is lost.
    """
    if len(values) <= 2 * buckets:
        return np.arange(len(values))
    shown = {0, len(values) - 1}
    for start, stop in zip(*_bounds(len(values), buckets), strict=True):
        stretch = values[start:stop]
        finite = np.isfinite(stretch)
        if finite.any():
            shown |= {start + int(np.argmin(np.where(finite, stretch, np.inf)))}
            shown |= {start + int(np.argmax(np.where(finite, stretch, -np.inf)))}
        if not finite.all():
            shown.add(start + int(np.argmin(finite)))
    return np.array(sorted(shown))


def _bounds(length: int, buckets: int) -> tuple[list[int], list[int]]:
    edges = [length * one // buckets for one in range(buckets + 1)]
    return edges[:-1], edges[1:]
