"""Which stages of a lockstep run hold more than rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lockstep.harness.core.ledger import Row
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.limits import UNITS


def above_noise(rows: Sequence[Row], dtype: str) -> list[Row]:
    """The rows that are larger, or further apart, than the rounding of the largest of their kind in their step."""
    largest: dict[tuple[int, str], float] = {}
    for row in rows:
        place = row.step, row.kind
        largest[place] = max(largest.get(place, 0.0), row.scale)
    noise = UNITS * float(np.finfo(dtype).eps)
    return [row for row in rows if max(row.scale, row.absolute) > noise * largest[row.step, row.kind]]


def undecided(rows: Sequence[Row], dtype: str) -> list[Row]:
    """The rows that could not be judged, but for those that contain only rounding.

    The undivided step is left out: its halves are judged by themselves.
    """
    return [
        row for row in above_noise(rows, dtype) if row.verdict is Verdict.INCONCLUSIVE and row.kind != "step"
    ]
