"""Slices of parameters: a search links them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.backends.problem import Array
from lockstep.harness.mapping.link import Link, Slices


@dataclass(frozen=True)
class ParameterSlice:
    """A parameter of one side, or a part of it."""

    name: str
    slices: Slices = ()

    def of(self, array: Array) -> Array:
        """This slice of an array of the parameter's shape."""
        return array[tuple(slice(*one) for one in self.slices)]

    def cut(self, shape: tuple[int, ...], axis: int, lengths: Sequence[int]) -> list[ParameterSlice]:
        """The parts of these lengths along an axis; `shape` is the slice's own."""
        bounds = [*self.slices, *((0, length) for length in shape[len(self.slices) :])]
        ends = list(itertools.accumulate(lengths, initial=bounds[axis][0]))
        whole = [*bounds[:axis]], [*bounds[axis + 1 : len(self.slices)]]
        return [ParameterSlice(self.name, (*whole[0], pair, *whole[1])) for pair in itertools.pairwise(ends)]

    def __str__(self) -> str:
        inside = ", ".join(f"{start}:{stop}" for start, stop in self.slices)
        return f"{self.name}[{inside}]" if inside else self.name


Pair = tuple[ParameterSlice, ParameterSlice]
"""Left and right."""


@dataclass(frozen=True)
class Arrangement:
    """An array of one side, and the parameters of the other that are its pieces.

    Attributes:
        whole: the array.
        side: its side.
        parts: the array, cut.
        members: of the other side, in the order of the parts.
        by: how they were matched.
        axes: along how many axes it can be cut so.
    """

    whole: ParameterSlice
    side: int
    parts: tuple[ParameterSlice, ...]
    members: tuple[ParameterSlice, ...]
    by: str
    axes: int

    @property
    def pairs(self) -> dict[Pair, str]:
        """Each part with its counterpart, left and right, and how they were matched."""
        sides = (self.parts, self.members) if self.side == 0 else (self.members, self.parts)
        return dict.fromkeys(zip(*sides, strict=True), self.by)

    def on(self, side: int) -> tuple[ParameterSlice, ...]:
        """All that it has on a side."""
        return (self.whole, *self.parts) if side == self.side else self.members


def pair_of(link: Link) -> Pair:
    """The slices that a link connects, left and right."""
    return ParameterSlice(link.left, link.left_slice), ParameterSlice(link.right, link.right_slice)
