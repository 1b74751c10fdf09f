"""Which epochs a table shows when a run has more than a page holds."""

from __future__ import annotations


def shown_epochs(epochs: int, limit: int = 20) -> list[int | None]:
    """All epochs, or the first and last ones around a None that stands for those left out."""
    if epochs <= limit:
        return list(range(epochs))
    half = limit // 2
    return [*range(half), None, *range(epochs - half, epochs)]
