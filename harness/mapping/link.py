"""One link of a mapping: an array of the left side, or a slice of it, and the same array or slice of the right side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array

Slices = tuple[tuple[int, int | None], ...]
"""(start, stop) of the first axes; axes that are not named are whole, as is one whose stop is None from its start on."""


NEAR = 0.05
"""The largest distance of counterparts' gradients, relative to their size: it allows for a wrong port, not for a guess."""

FLOOR = {"float64": 1e-9, "float32": 1e-4}
"""Distances of gradients below are one: rounding."""

CERTAIN = frozenset({"given", "loss"})
"""How a pair can be matched that no gradient can doubt: by you; by losses that agree under random numbers."""


class MappingError(LockstepError):
    """A mapping does not fit the parameters, or could not be found."""


@dataclass(frozen=True)
class Link:
    """One array of the left side, or a slice of it, and the array or slice of the right side that holds the same numbers.

    right = left.reshape(reshape).transpose(transpose), in the shape of the right slice.

    Attributes:
        left, right: names.
        left_slice, right_slice: which part of each; empty: all of it.
        reshape: of the left slice, before it is transposed; None: as it is.
        transpose: the order of axes; None: as they are.
        by: how the pair was matched.
        distance: of both sides' gradients through this link; None where it was not measured.
    """

    left: str
    right: str
    left_slice: Slices = ()
    right_slice: Slices = ()
    reshape: tuple[int, ...] | None = None
    transpose: tuple[int, ...] | None = None
    by: str = "given"
    distance: float | None = None

    def to_right(self, values: Array, shape: tuple[int, ...]) -> Array:
        """The left slice in the layout of the right one, which has `shape`."""
        shaped = values if self.reshape is None else values.reshape(self.reshape)
        axes = range(shaped.ndim) if self.transpose is None else self.transpose
        return np.ascontiguousarray(shaped.transpose(axes)).reshape(shape)

    def to_left(self, values: Array, shape: tuple[int, ...]) -> Array:
        """The right slice in the layout of the left one, which has `shape`."""
        between = shape if self.reshape is None else self.reshape
        axes = range(len(between)) if self.transpose is None else self.transpose
        converted = values.reshape([between[axis] for axis in axes])
        return np.ascontiguousarray(converted.transpose(np.argsort(axes))).reshape(shape)

    @property
    def unconfirmed(self) -> bool:
        """Whether the gradients of the two differ: names, shapes or structure leave no other candidate, or the port is wrong."""
        return self.by not in CERTAIN and self.distance is not None and self.distance > NEAR

    @property
    def layout(self) -> str:
        """The layout in words; empty where both sides have the same."""
        words = [
            f"left {sliced(self.left_slice)}" if self.left_slice else "",
            f"reshape {list(self.reshape)}" if self.reshape is not None else "",
            f"transpose {list(self.transpose)}" if self.transpose is not None else "",
            f"right {sliced(self.right_slice)}" if self.right_slice else "",
        ]
        return ", ".join(word for word in words if word)


def sliced(slices: Slices) -> str:
    """As Python writes them: ``[0:4, 2:]``."""
    return "[" + ", ".join(f"{start}:{'' if stop is None else stop}" for start, stop in slices) + "]"


def slice_shape(shape: tuple[int, ...], slices: Slices) -> tuple[int, ...]:
    """The shape of a slice of an array of this shape."""
    cut = [len(range(length)[slice(*one)]) for one, length in zip(slices, shape, strict=False)]
    return (*cut, *shape[len(cut) :])
