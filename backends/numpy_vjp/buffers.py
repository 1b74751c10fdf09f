"""Buffers: what the forward pass of training moves, and what evaluation reads of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays


class Average(NamedTuple):
    """The buffers of one layer.

    Attributes:
        move: (its input in training, buffers) -> the next buffers.
        read: buffers -> the statistics that evaluation takes.
    """

    move: Callable[[Array, Arrays], dict[str, Array]]
    read: Callable[[Arrays], dict[str, Array]]


def running_statistics(momentum: float, unbiased: bool, debias: bool) -> Average:
    """Batch norm's: r ← (1 − α) r + α s for the mean and the variance over all axes but the last.

    With `debias` they start at 0 and are read divided by 1 − (1 − α)ᵗ (as Adam's moments); before the first step
    they are read as they are, 0.
    """

    def move(x: Array, buffers: Arrays) -> dict[str, Array]:
        axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
        mean = np.mean(x, axis=axes)
        variance = np.sum((x - mean) ** 2, axis=axes) / (count - 1 if unbiased else count)
        moved = {
            name: (1 - momentum) * buffers[name] + momentum * value
            for name, value in (("mean", mean), ("variance", variance))
        }
        return {**moved, "count": buffers["count"] + 1} if debias else moved

    def read(buffers: Arrays) -> dict[str, Array]:
        if not debias:
            return dict(buffers)
        weight = 1 - (1 - momentum) ** int(buffers["count"]) or 1.0
        return {name: buffers[name] / weight for name in ("mean", "variance")}

    return Average(move, read)


AVERAGES: Mapping[str, Callable[[Args], Average]] = {
    "batch_norm": lambda args: running_statistics(
        args["momentum"], bool(args["unbiased"]), bool(args["debias"])
    ),
}
