"""Where a search for a mapping stands: what is linked, what is open on both sides, and the gradients last looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Batch
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.probes import Fill
from lockstep.harness.mapping.signals import Signals, one_step, signals
from lockstep.harness.mapping.slices import Piece, pair_of

NEAR = 0.05
"""Gradients of counterparts may be so far apart, of their size: room for a port that is not right, not for a guess."""

MARGIN = 10.0
"""The next best counterpart, or layout, must be so many times further away."""

FLOOR = {"float64": 1e-9, "float32": 1e-4}
"""Distances below are one: rounding."""


class Search:
    """One search, on the left (0) and on the right (1) side.

    Attributes:
        left, right: what is searched.
        batches: what each side sees.
        shapes, buffers: of both sides, by name.
        still: buffers of both sides that no step moves, frozen parameters say, of which the other side has one of that size.
        links: what is linked.
        open: pieces of both sides that are not.
        loose: pairs that have no rival in several layouts that are as near; they are open.
        last: the gradients last looked at.
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
        self.open = tuple([Piece(name) for name in shapes] for shapes in self.shapes)
        self.loose: list[list[Link]] = []
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

    def look(self, fill: Fill, extra: Sequence[Link] = (), seed: int | None = None) -> Signals:
        """The gradients under a fill, if `extra` were linked too; the seed is by default the number of links."""
        links = [*self.links, *extra]
        taken = [pair_of(one) for one in extra]
        known = [[one] for one in links] + [one for one in self.loose if pair_of(one[0]) not in taken]
        seed = len(links) if seed is None else seed
        return signals(self.left, self.right, known, self.batches, self.still, seed, fill)

    def take(self, links: Iterable[Link]) -> bool:
        """Link what was found, if anything was; the pieces are no longer open."""
        found = list(links)
        for link in found:
            self.links.append(link)
            for side, piece in enumerate(pair_of(link)):
                self.open[side].remove(piece)
        taken = [pair_of(link) for link in found]
        self.loose = [one for one in self.loose if pair_of(one[0]) not in taken]
        return bool(found)

    def replace(self, piece: Piece, side: int, parts: Sequence[Piece]) -> None:
        """An open piece by its parts."""
        self.open[side].remove(piece)
        self.open[side].extend(parts)
        self.loose = [one for one in self.loose if pair_of(one[0])[side] != piece]

    def shape(self, piece: Piece, side: int) -> tuple[int, ...]:
        """Of a piece."""
        held = {**self.buffers[side], **self.shapes[side]}
        return piece.of(np.empty(held[piece.name], dtype=bool)).shape

    def size(self, piece: Piece, side: int) -> int:
        """How many numbers a piece holds."""
        return int(np.prod(self.shape(piece, side)))

    def layouts(self, left: Piece, right: Piece, by: str = "") -> Iterator[Link]:
        """Every link of two pieces."""
        shapes = self.shape(left, 0), self.shape(right, 1)
        nothing = Link(left.name, right.name, left.slices, right.slices, transpose=(-1,), by=by)
        yield from layouts(*shapes, nothing, self._channels)

    def far(self, rivals: Iterable[float], distance: float) -> bool:
        """Whether all rivals are so much further away that there is no choice."""
        return min(rivals, default=np.inf) >= MARGIN * max(distance, self._floor)

    def same_loss(self, apart: float, plain: float) -> bool:
        """Whether the losses are no further apart than before, but for rounding."""
        return apart <= max(3 * plain, self._floor)
