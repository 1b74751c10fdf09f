"""The layouts in which two shapes can hold the same numbers."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.mapping.link import Link

Shape = tuple[int, ...]


def layouts(left: Shape, right: Shape, link: Link, channels: Iterable[int] = ()) -> Iterator[Link]:
    """The link in every layout that fits both shapes, but for the one that it has.

    Axes in another order; axes that one side has merged; and, where a flattened image meets a matrix, its channels first
    on one side and last on the other.

    Args:
        left, right: shapes of the two arrays or slices.
        link: whose names and slices the layouts are of.
        channels: numbers of channels that a flattened axis may hold.
    """
    for reshape, transpose in _fitting(left, right, tuple(channels)):
        one = dataclasses.replace(link, reshape=reshape, transpose=transpose)
        if one != link:
            yield one


@lru_cache(maxsize=4096)
def _fitting(left: Shape, right: Shape, channels: Shape) -> tuple[tuple[Shape | None, Shape | None], ...]:
    """(reshape, transpose) of every layout that fits two shapes."""
    distinct: dict[object, tuple[Shape | None, Shape | None]] = {}
    # Of two with the same effect, because an axis has length 1, the one that needs no reshape.
    fitting = sorted(_orders(left, right), key=lambda one: tuple(one[0][axis] for axis in one[1]) != right)
    for reshape, axes in (*fitting, *_flattened(left, right, channels)):
        plain = axes == tuple(range(len(axes)))
        other = None if plain or reshape == left else reshape, None if plain else axes
        distinct.setdefault(_effect(reshape, axes), other)
    return tuple(distinct.values())


def _effect(between: Shape, axes: Shape) -> tuple[Shape, Shape]:
    """The effect of a layout on the order of the numbers: axes of length 1 have none, neighbours that stay neighbours are one."""
    order = [axis for axis in axes if between[axis] > 1]
    ranks = sorted(order)
    lengths: list[int] = []
    places: list[int] = []
    for at, axis in enumerate(order):
        rank = ranks.index(axis)
        if at and places[-1] + 1 == rank:
            lengths[-1] *= between[axis]
            places[-1] = rank
        else:
            lengths.append(between[axis])
            places.append(rank)
    return tuple(lengths), tuple(sorted(range(len(places)), key=places.__getitem__))


def _orders(left: Shape, right: Shape) -> Iterator[tuple[Shape, Shape]]:
    """(reshape, transpose): the axes of the side that has more of them, in every order that the other's can be merged from."""
    if math.prod(left) != math.prod(right):
        return
    if len(left) >= len(right):
        for axes in itertools.permutations(range(len(left))):
            if _merges(tuple(left[axis] for axis in axes), right):
                yield left, axes
        return
    for axes in itertools.permutations(range(len(right))):
        between = tuple(right[axis] for axis in axes)
        if _merges(between, left):
            # right.transpose(axes) is the left reshaped; the other way round, its inverse.
            yield between, tuple(axes.index(axis) for axis in range(len(axes)))


def _merges(fine: Shape, coarse: Shape) -> bool:
    """Whether neighbouring axes of `fine` multiply to the axes of `coarse`."""
    rest = list(fine)
    for length in coarse:
        product = 1
        while rest and (product < length or (product == length and rest[0] == 1)):
            product *= rest.pop(0)
        if product != length:
            return False
    return all(one == 1 for one in rest)


def _flattened(left: Shape, right: Shape, channels: Iterable[int]) -> Iterator[tuple[Shape, Shape]]:
    """Two matrices one of whose axes is a flattened image: (out, C·S) against (S·C, out), and what else that may be."""
    if len(left) != 2 or len(right) != 2:
        return
    for axis in (0, 1):
        for count in channels:
            if count > 1 and left[axis] % count == 0 and left[axis] > count:
                inner = left[axis] // count
                for pair in ((count, inner), (inner, count)):
                    between = (*pair, left[1]) if axis == 0 else (left[0], *pair)
                    swapped = (1, 0, 2) if axis == 0 else (0, 2, 1)
                    if left == right:
                        yield between, swapped
                    if left == right[::-1]:
                        yield between, (2, 1, 0)


def orbits(links: Sequence[Link], left: Shape, right: Shape) -> Array:
    """For each element of the left slice, a representative of all that must be equal for these layouts to agree; `left`.

    Args:
        links: one pair in several layouts.
        left, right: shapes of the two slices.
    """
    here = np.arange(math.prod(left))
    first, *others = (one.to_right(here.reshape(left), right).ravel() for one in links)
    while True:
        before = here.copy()
        for other in others:
            least = np.minimum(here[first], here[other])
            here[first] = least
            here[other] = np.minimum(here[other], least)
        here = here[here]
        if np.array_equal(here, before):
            return here.reshape(left)
