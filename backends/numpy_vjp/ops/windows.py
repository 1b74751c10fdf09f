"""Windows that slide over the axes between the batch and the channels: views, not copies, and their adjoint."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from lockstep.backends.problem import Array


def pad(x: Array, padding: int, value: float = 0.0) -> Array:
    """X (n, ..., channels) with `padding` times `value` at both ends of each axis between."""
    if not padding:
        return x
    between = [(padding, padding)] * (x.ndim - 2)
    return np.pad(x, [(0, 0), *between, (0, 0)], constant_values=value)


def unpad(x: Array, padding: int) -> Array:
    """The adjoint of `pad`: what was added is cut off."""
    if not padding:
        return x
    return x[(slice(None), *[slice(padding, -padding)] * (x.ndim - 2))]


def slide(x: Array, size: int, stride: int) -> Array:
    """The windows of x (n, ..., channels): (n, places ..., channels, window ...), a view."""
    between = tuple(range(1, x.ndim - 1))
    view = np.lib.stride_tricks.sliding_window_view(x, (size,) * len(between), axis=between)
    return view[(slice(None), *[slice(None, None, stride)] * len(between))]


def offsets(axes: int, size: int) -> Iterator[tuple[int, ...]]:
    """The places within a window, the last axis fastest."""
    return itertools.product(range(size), repeat=axes)


def at(offset: tuple[int, ...], places: tuple[int, ...], stride: int) -> tuple[slice, ...]:
    """What to index the padded array with to get the element at `offset` of every window."""
    along = (
        slice(start, start + stride * (count - 1) + 1, stride)
        for start, count in zip(offset, places, strict=True)
    )
    return (slice(None), *along)
