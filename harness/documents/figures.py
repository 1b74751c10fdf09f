"""Figures as words: how reports write losses, distances and places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DIGITS = {"float64": 10, "float32": 8}
"""Significant digits of a loss: those that the seed's notebook prints."""


def loss(value: float | str | None, dtype: str) -> str:
    """A loss, or the word for one that is not finite."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.{DIGITS[dtype]}g}"


def distance(value: float | str | None) -> str:
    """A distance or tolerance to two digits."""
    if value is None or value == "NaN":
        return "-"
    return value if isinstance(value, str) else f"{value:.1e}" if value else "0"


def share(value: float | str | None) -> str:
    """A part of a whole, in percent; how many times the whole where it is more."""
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.2g} times" if value > 1 else f"{value:.1%}"


def printable(text: str) -> str:
    """Text that is safe to print in a terminal: control characters as their escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def place(index: list[int], unit: str) -> str:
    """Where in a quantity: ``epoch 3``, ``step 3`` or ``[0, 1]``."""
    return str(list(index)) if unit == "index" else f"{unit} {index[0]}"


def step(case: dict[str, Any]) -> str:
    """The unit of a row in the table of losses."""
    return "epoch" if case["steps"] == case["epochs"] else "step"


def tolerance(one: dict[str, Any]) -> str:
    """A tolerance in words."""
    if one["kind"] == "budget":
        return str(one["source"])
    parts = [f"{name} {one[name]:g}" for name in ("rtol", "atol") if one[name]] or ["exact"]
    scale = "scaled" if one["scaled"] else "element by element"
    return f"{', '.join(parts)}, {scale} ({one['source']})"


def ulps(value: int | None) -> str:
    """A ULP distance."""
    if value is None:
        return "-"
    return str(value) if value < 10**6 else f"{value:.1e}"


def worst(comparison: dict[str, Any]) -> dict[str, Any] | None:
    """The place furthest beyond its limit."""
    return next(iter(comparison["places"]), None)


def own_error(errors: dict[str, Any] | None) -> tuple[str, str]:
    """The largest error of the losses and of the parameters, in ULPs."""
    if errors is None:
        return "-", "-"
    return _largest(errors["losses"]), _largest(list(errors["parameters"].values()))


def _largest(values: Any) -> str:
    flat = list(flattened(values))
    words = [one for one in flat if isinstance(one, str)]
    return words[0] if words else f"{max(flat, default=0.0):.3g}"


def flattened(values: Any) -> Iterator[Any]:
    """The leaves of nested lists."""
    for one in values if isinstance(values, list) else [values]:
        if isinstance(one, list):
            yield from flattened(one)
        else:
            yield one
