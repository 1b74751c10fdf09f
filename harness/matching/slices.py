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


def pair_of(link: Link) -> tuple[ParameterSlice, ParameterSlice]:
    """The slices that a link connects, left and right."""
    return ParameterSlice(link.left, link.left_slice), ParameterSlice(link.right, link.right_slice)
