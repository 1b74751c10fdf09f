"""Final parameters side by side, with the ULPs between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.distance import ulps_between

Row = dict[str, Any]

SHOWN = 24
"""Elements that are shown of a case."""


@dataclass(frozen=True)
class Element:
    """One number of one parameter: its index, its value on each backend (None where there is none), and the ULPs from
    the least to the largest of them; None unless all are finite.
    """

    name: str
    index: list[int]
    values: list[Any]
    ulps: int | None


@dataclass(frozen=True)
class Parameters:
    """The elements that are shown, and how many there are."""

    elements: list[Element]
    total: int


NONE = Parameters([], 0)


def parameters(dtype: str, trained: list[Row]) -> Parameters:
    """All elements of all parameters; where those are too many, the ones furthest apart."""
    names = list(dict.fromkeys(name for run in trained for name in run["parameters"]))
    found = [one for name in names for one in _elements(name, dtype, trained)]
    shown = found if len(found) <= SHOWN else sorted(found, key=_nearness)[:SHOWN]
    return Parameters(shown, len(found))


def _nearness(one: Element) -> float:
    return float("-inf") if one.ulps is None else -one.ulps


def _elements(name: str, dtype: str, trained: list[Row]) -> Iterator[Element]:
    arrays = [np.asarray(run["parameters"].get(name, []), dtype=object) for run in trained]
    largest = max(arrays, key=lambda one: one.size)
    for index in np.ndindex(largest.shape):
        values = [array[index] if array.shape == largest.shape else None for array in arrays]
        yield Element(name, list(index), values, _spread(values, dtype))


def _spread(values: list[Any], dtype: str) -> int | None:
    if any(not isinstance(one, (int, float)) for one in values):
        return None
    kind = np.dtype(dtype).type
    return ulps_between(kind(min(values)), kind(max(values)))
