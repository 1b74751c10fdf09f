"""Numbers as JSON can hold them."""

from __future__ import annotations

import math


def number(value: float | None) -> float | str | None:
    """A float; NaN and the infinities, which JSON has not, as words."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
