"""Names of several sides in reports."""

from __future__ import annotations

from collections.abc import Iterable


def numbered(names: Iterable[str]) -> list[str]:
    """The names, numbered where two have the same."""
    numbers: list[str] = []
    for one in names:
        taken = sum(name.split(" ")[0] == one for name in numbers)
        numbers.append(f"{one} {taken + 1}" if taken else one)
    return numbers
