"""Fused parameters, one array on one side and several on the other: split where each part is the counterpart of another."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from lockstep.harness.mapping.link import NEAR
from lockstep.harness.matching.evidence import Ranked, of_linked_names, of_one_size, without_choice
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.slices import Pair, ParameterSlice, pair_of

PARTS = (3, 4, 2)
"""Into how many equal parts a fused parameter is split: pairs, query-key-value, the gates of a GRU or an LSTM."""


def split(search: Search, ranked: Ranked) -> bool:
    """Cut the first open slice each of whose parts is the counterpart of another slice, or of a part of one."""
    counts = [Counter(search.size(one, side) for one in search.open[side]) for side in (0, 1)]
    for side in (0, 1):
        for array_slice in search.open[side]:
            size = search.size(array_slice, side)
            if counts[side][size] <= counts[1 - side][size]:
                continue  # the other side has a whole one for each of this size
            for parts in _cuts(search, array_slice, side):
                if _have_counterparts(search, parts, side, search.open[1 - side]):
                    search.replace(array_slice, side, parts)
                    return True
    return _split_both(search, ranked)


def _split_both(search: Search, ranked: Ranked) -> bool:
    """Cut two slices that hold the same numbers in another order."""
    for one, two in _reordered(search, ranked):
        for parts, others in itertools.product(_cuts(search, one, 0), _cuts(search, two, 1)):
            if len(parts) == len(others) and _have_counterparts(search, parts, 0, others):
                search.replace(one, 0, parts)
                search.replace(two, 1, others)
                return True
    return False


def _reordered(search: Search, ranked: Ranked) -> list[Pair]:
    """Pairs with the same numbers but in no layout, without a rival or matched by name: gates in another order, for example."""
    laid_out = {pair_of(link) for distance, link in ranked if distance <= NEAR}
    pairs = [pair for pair in of_one_size(search) if pair not in laid_out and _alike(search, *pair)]
    chosen = {*without_choice(pairs), *of_linked_names(search)}
    return [pair for pair in pairs if pair in chosen]


def _cuts(search: Search, array_slice: ParameterSlice, side: int) -> Iterator[list[ParameterSlice]]:
    """Into equal parts; and into parts as large as two of the other side's are."""
    shape = search.shape(array_slice, side)
    size = search.size(array_slice, side)
    others = [search.size(one, 1 - side) for one in search.open[1 - side]]
    for axis, length in enumerate(shape):
        cut_before = (
            axis < len(array_slice.slices) and shape[axis] < search.shapes[side][array_slice.name][axis]
        )
        if not cut_before and length > 1 and size // length in others:
            yield array_slice.cut(shape, axis, [1] * length)
        for parts in PARTS:
            if not cut_before and length % parts == 0 and length > parts:
                yield array_slice.cut(shape, axis, [length // parts] * parts)
        for one, two in itertools.permutations(dict.fromkeys(others), 2):
            if one + two == size and one * length % size == 0:
                yield array_slice.cut(shape, axis, [one * length // size, two * length // size])


def _alike(search: Search, left: ParameterSlice, right: ParameterSlice) -> bool:
    coarse = search.last.invariant_distance(left, right)
    return coarse is not None and coarse <= NEAR


def _have_counterparts(
    search: Search, parts: Sequence[ParameterSlice], side: int, others: Sequence[ParameterSlice]
) -> bool:
    """Whether each part is near to another one of `others`, or, but for most of them, both have no gradient."""
    taken: dict[ParameterSlice, bool] = {}
    for part in parts:
        matches = [(_matches(search, part, other, side), other) for other in others if other not in taken]
        best = next((one for by in (True, False) for one in matches if one[0] is by), None)
        if best is None:
            return False
        taken[best[1]] = bool(best[0])
    return 2 * sum(taken.values()) > len(parts)


def _matches(search: Search, array_slice: ParameterSlice, other: ParameterSlice, side: int) -> bool | None:
    """True if the gradients are near, False if there are none on both sides; None if it is no counterpart."""
    if search.size(array_slice, side) != search.size(other, 1 - side):
        return None
    distance = search.last.invariant_distance(*((array_slice, other) if side == 0 else (other, array_slice)))
    if distance is None:
        # A bias before a normalisation, or of keys before a softmax.
        uninformative = search.last.uninformative(array_slice, side) and search.last.uninformative(
            other, 1 - side
        )
        return False if uninformative else None
    return distance <= NEAR or None
