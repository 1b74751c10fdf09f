"""Final parameters side by side, with the ULPs between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.core.distance import rank, ulps_between

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
    """All elements of all parameters; where those are too many, the ones with the largest distance."""
    names = list(dict.fromkeys(name for run in trained for name in run["parameters"]))
    elements, total = [], 0
    for name in names:
        arrays = _arrays(name, trained)
        total += arrays[0].size
        elements += [_element(name, index, arrays, dtype) for index in _most_distant(arrays, dtype)]
    return Parameters(elements if total <= SHOWN else sorted(elements, key=_nearness)[:SHOWN], total)


def _nearness(one: Element) -> float:
    return float("-inf") if one.ulps is None else -one.ulps


def _arrays(name: str, trained: list[Row]) -> list[Array]:
    """One array for each backend, of objects and of one shape: None where a backend has no such parameter, or another shape."""
    arrays = [np.asarray(run["parameters"].get(name, []), dtype=object) for run in trained]
    shape = max(arrays, key=lambda one: one.size).shape
    return [one if one.shape == shape else np.full(shape, None) for one in arrays]


def _most_distant(arrays: list[Array], dtype: str) -> list[tuple[int, ...]]:
    """Indices of at most SHOWN elements, those with the largest distance, in their own order."""
    shape = arrays[0].shape
    if arrays[0].size <= SHOWN:
        return list(np.ndindex(shape))
    with np.errstate(over="ignore"):
        table = np.array([one.astype(np.float64) for one in arrays]).astype(dtype)
    finite = np.isfinite(table).all(axis=0)
    distance = np.where(finite, rank(table.max(axis=0)) - rank(table.min(axis=0)), np.inf)
    chosen = np.sort(np.argsort(-distance, axis=None, kind="stable")[:SHOWN])
    return [tuple(map(int, np.unravel_index(one, shape))) for one in chosen]


def _element(name: str, index: tuple[int, ...], arrays: list[Array], dtype: str) -> Element:
    values = [array[index] for array in arrays]
    return Element(name, list(index), values, _spread(values, dtype))


def _spread(values: list[Any], dtype: str) -> int | None:
    if any(not isinstance(one, (int, float)) for one in values):
        return None
    kind = np.dtype(dtype).type
    return ulps_between(kind(min(values)), kind(max(values)))
