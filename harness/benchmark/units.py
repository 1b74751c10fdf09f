"""Times, bytes and rates in words."""

from __future__ import annotations

from collections.abc import Sequence

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))


def seconds(value: float | None) -> str:
    """To three digits: ``1.23 ms``."""
    return _scaled(value, _TIMES)


def span(values: Sequence[float]) -> str:
    """Two times in the unit of the larger: ``1.20 to 1.31 ms``."""
    factor, unit = next((one for one in _TIMES if values[1] >= one[0]), _TIMES[-1])
    return f"{values[0] / factor:.3g} to {values[1] / factor:.3g} {unit}"


def count(value: float | None) -> str:
    """To three digits: ``1.23 M``."""
    return _scaled(value, _COUNTS).rstrip()


def size(value: float | None) -> str:
    """Bytes: ``12.3 MiB``."""
    return _scaled(value, _BYTES)


def times(value: float | None) -> str:
    """A ratio: ``1.23``."""
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def exponent(value: float) -> str:
    """To two decimals, without the sign of a zero: ``0.98``."""
    return f"{round(value, 2) + 0.0:.2f}"


def share(value: float | None) -> str:
    """A part of a whole: ``3.2%``."""
    return "-" if value is None else f"{value:.1%}"


def _scaled(value: float | None, units: Sequence[tuple[float, str]]) -> str:
    if value is None:
        return "-"
    factor, unit = next((one for one in units if value >= one[0]), units[-1])
    return f"{value / factor:.3g} {unit}"
