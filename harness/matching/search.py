"""The state of a search for a mapping: the links, the open slices of both sides, and the gradients last evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Batch
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import Link
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.signals import Signals, one_step, signals
from lockstep.harness.matching.slices import ParameterSlice, pair_of

NEAR = 0.05
"""The largest distance of counterparts' gradients, relative to their size: it allows for a wrong port, not for a guess."""

MARGIN = 10.0
"""The next best counterpart, or layout, must be so many times further away."""

FLOOR = {"float64": 1e-9, "float32": 1e-4}
"""Distances below are one: rounding."""


class Search:
    """One search, on the left (0) and on the right (1) side.

    Attributes:
        left, right: the two trainers.
        batches: the batch of each side.
        shapes, buffers: of both sides, by name.
        still: buffers that no step changes, such as frozen parameters, where the other side has one of the same size.
        links: the links so far.
        open: slices of both sides that are not linked.
        ambiguous: pairs without a rival whose layout is not certain, several being as near; they are open.
        last: the gradients last evaluated.
    """

    last: Signals

    def __init__(self, left: Adopted, right: Adopted, batches: tuple[Batch, Batch]) -> None:
        self.left, self.right, self.batches = left, right, batches
        snapshots = left.read(left.init()), right.read(right.init())
        self.shapes, self.buffers = (
            tuple({name: one.shape for name, one in arrays.items()} for arrays in both)
            for both in zip(*((one.parameters, one.buffers) for one in snapshots), strict=True)
        )
        self.still = self._still()
        self.links: list[Link] = []
        self.open = tuple([ParameterSlice(name) for name in shapes] for shapes in self.shapes)
        self.ambiguous: list[list[Link]] = []
        self._floor = FLOOR[left.dtype]
        self._channels = sorted(
            {length for shapes in self.shapes for shape in shapes.values() for length in shape}
        )

    def _still(self) -> tuple[list[str], list[str]]:
        moved = [
            one_step(side, {}, batch)[2]
            for side, batch in zip((self.left, self.right), self.batches, strict=True)
        ]
        sizes = [{one.size for one in side.values() if not one.any()} for side in moved]
        left, right = (
            [name for name, one in side.items() if not one.any() and one.size in sizes[0] & sizes[1]]
            for side in moved
        )
        return left, right

    def look(self, probe: Probe, extra: Sequence[Link] = (), seed: int | None = None) -> Signals:
        """The gradients under a probe, if `extra` were linked too; the seed is by default the number of links."""
        links = [*self.links, *extra]
        taken = [pair_of(one) for one in extra]
        known = [[one] for one in links] + [one for one in self.ambiguous if pair_of(one[0]) not in taken]
        seed = len(links) if seed is None else seed
        return signals(self.left, self.right, known, self.batches, self.still, seed, probe)

    def take(self, links: Iterable[Link]) -> bool:
        """Add these links, if there are any; their slices are no longer open."""
        new = list(links)
        for link in new:
            self.links.append(link)
            for side, array_slice in enumerate(pair_of(link)):
                self.open[side].remove(array_slice)
        taken = [pair_of(link) for link in new]
        self.ambiguous = [one for one in self.ambiguous if pair_of(one[0]) not in taken]
        return bool(new)

    def replace(self, array_slice: ParameterSlice, side: int, parts: Sequence[ParameterSlice]) -> None:
        """Replace an open slice by its parts."""
        self.open[side].remove(array_slice)
        self.open[side].extend(parts)
        self.ambiguous = [one for one in self.ambiguous if pair_of(one[0])[side] != array_slice]

    def shape(self, array_slice: ParameterSlice, side: int) -> tuple[int, ...]:
        """The shape of a slice."""
        shapes = {**self.buffers[side], **self.shapes[side]}
        return array_slice.of(np.empty(shapes[array_slice.name], dtype=bool)).shape

    def size(self, array_slice: ParameterSlice, side: int) -> int:
        """How many numbers a slice holds."""
        return int(np.prod(self.shape(array_slice, side)))

    def layouts(self, left: ParameterSlice, right: ParameterSlice, by: str = "") -> Iterator[Link]:
        """Every link of two slices."""
        shapes = self.shape(left, 0), self.shape(right, 1)
        nothing = Link(left.name, right.name, left.slices, right.slices, transpose=(-1,), by=by)
        yield from layouts(*shapes, nothing, self._channels)

    def far(self, rivals: Iterable[float], distance: float) -> bool:
        """Whether all rivals are so much further away that there is no choice."""
        return min(rivals, default=np.inf) >= MARGIN * max(distance, self._floor)

    def same_loss(self, distance: float, plain: float) -> bool:
        """Whether the distance of the losses is no larger than before, but for rounding."""
        return distance <= max(3 * plain, self._floor)
