"""Finding a mapping: by name, by shape, and by function; what remains uncertain is left over, with its candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from backends.adoption import Adopted
from backends.problem import Batch
from harness.adopted import names
from harness.adopted.layouts import layouts
from harness.adopted.mapping import OPTIONAL, Link, Mapping
from harness.adopted.signals import Fill, Piece, Signals, signals
from harness.adopted.task import task_of
from harness.adopted.training import refuse_random

NEAR = 0.05
"""Gradients of counterparts may be so far apart, of their size: room for a port that is not right, not for a guess."""

MARGIN = 10.0
"""The next best counterpart, or layout, must be so many times further away."""

FLOOR = {"float64": 1e-9, "float32": 1e-4}
"""Distances below are one: rounding."""

FILLS = (Fill(0.5, 1.0), Fill(0.5, 0.0), Fill(0.25, 1.0), Fill(1.0, 1.0))
"""What unknown parameters are filled with, tried in turn: under one a unit may be dead or a softmax saturated."""

MOST_LAYOUTS = 24
"""Layouts of one pair that are tried out."""

PARTS = (3, 4, 2)
"""Into how many equal parts a fused parameter is split: pairs, query-key-value, the gates of a GRU or an LSTM."""


def find_mapping(left: Adopted, right: Adopted, batches: Iterable[Any]) -> Mapping:
    """Which parameter of `left` is which of `right`, and how that was found.

    Names and shapes are tried first and held against the function; where the function contradicts them it is asked alone.
    What cannot be told apart is in `Mapping.left_over`.

    Args:
        left, right: adopted trainers of the same model.
        batches: pairs (x, y); the first is used.

    Raises:
        AdoptionError: the dtypes differ, there is no batch, or a side draws random numbers.
    """
    batch = task_of([left, right], itertools.islice(batches, 1), None, "mapping").batches[0]
    for one in (left, right):
        refuse_random(one, batch)
    with np.errstate(all="ignore"):
        by_name = _Search(left, right, batch, by_name=True).run()
        if by_name.confirmed:
            return by_name.mapping()
        by_function = _Search(left, right, batch, by_name=False).run()
        if by_function.confirmed:
            return by_function.mapping()
    return by_name.mapping()


class _Search:
    """One search: what is linked so far, and the pieces of both sides that are not."""

    def __init__(self, left: Adopted, right: Adopted, batch: Batch, by_name: bool) -> None:
        self.left, self.right, self.batch, self.by_name = left, right, batch, by_name
        snapshots = left.read(left.init()), right.read(right.init())
        self.shapes = tuple(
            {name: one.shape for name, one in snapshot.parameters.items()} for snapshot in snapshots
        )
        self.buffers = tuple(
            {name: one.shape for name, one in snapshot.buffers.items()} for snapshot in snapshots
        )
        self.floor = FLOOR[left.dtype]
        self.links: list[Link] = []
        self.open = tuple([Piece(name) for name in shapes] for shapes in self.shapes)
        self.channels = sorted(
            {length for shapes in self.shapes for shape in shapes.values() for length in shape}
        )
        self.last: Signals | None = None
        self.distances: dict[Link, float | None] = {}

    def run(self) -> _Search:
        """Link until nothing more can be told."""
        while any(self.open) and any(self._round(fill) for fill in FILLS):
            pass
        if any(self.open):
            self._take(self._by_loss())
        self._confirm()
        return self

    @property
    def confirmed(self) -> bool:
        """Whether everything is linked and nothing that has a gradient is far apart."""
        known = [one for one in self.distances.values() if one is not None]
        return not any(self.open) and all(one <= NEAR for one in known) and bool(known)

    def mapping(self) -> Mapping:
        """What was found; a link by function alone that does not hold in the end is left over."""
        kept = [
            one for one in self.links if not (one.by == "function" and (self.distances[one] or 0.0) > NEAR)
        ]
        dropped = [one for one in self.links if one not in kept]
        links = [dataclasses.replace(one, distance=self.distances[one]) for one in kept]
        links += self._linked_buffers()
        over = {f"left:{one}": self._candidates(one, 0) for one in self.open[0]}
        over |= {f"right:{one}": self._candidates(one, 1) for one in self.open[1]}
        over |= {f"left:{one.left}": (f"{one.right} (not confirmed)",) for one in dropped}
        over |= {f"right:{one.right}": (f"{one.left} (not confirmed)",) for one in dropped}
        linked = {(side, getattr(one, side)) for one in links for side in ("left", "right")}
        for side, buffers in zip(("left", "right"), self.buffers, strict=True):
            over |= {f"{side}:{name}": (OPTIONAL,) for name in buffers if (side, name) not in linked}
        return Mapping(tuple(sorted(links, key=lambda one: (one.left, one.left_slice))), over)

    def _take(self, links: Iterable[Link]) -> bool:
        """Link what was found; the pieces are no longer open."""
        found = list(links)
        for link in found:
            self.links.append(link)
            self.open[0].remove(Piece(link.left, link.left_slice))
            self.open[1].remove(Piece(link.right, link.right_slice))
        return bool(found)

    def _told(self) -> list[Link]:
        """Pairs whose names leave no choice, or of which there is only one with these lengths, in the layout that is near."""
        pairs: dict[tuple[Piece, Piece], str] = {}
        if self.by_name:
            found = names.matched(*([one.name for one in side if not one.slices] for side in self.open))
            pairs = {(Piece(left), Piece(right)): by for (left, right), by in found.items()}
        taken = [one for pair in pairs for one in pair]
        pairs |= {pair: "shape" for pair in self._alone() if pair[0] not in taken and pair[1] not in taken}
        return [link for pair, by in pairs.items() if (link := self._near(*pair, by))]

    def _alone(self) -> list[tuple[Piece, Piece]]:
        """Pairs of which there is only one with these lengths."""
        kinds: dict[tuple[int, ...], tuple[list[Piece], list[Piece]]] = {}
        for side in (0, 1):
            for piece in self.open[side]:
                kinds.setdefault(tuple(sorted(self._shape(piece, side))), ([], []))[side].append(piece)
        return [(one[0][0], one[1][0]) for one in kinds.values() if len(one[0]) == len(one[1]) == 1]

    def _near(self, left: Piece, right: Piece, by: str, unknown: bool = False) -> Link | None:
        """The one layout in which the gradients are near, or, if `unknown`, are not there; None if there are several, or none."""
        assert self.last is not None
        told = [(self.last.distance(one), one) for one in self._layouts(left, right, by)]
        near = [one for distance, one in told if (unknown if distance is None else distance <= NEAR)]
        return near[0] if len(near) == 1 else None

    def _layouts(self, left: Piece, right: Piece, by: str) -> Iterator[Link]:
        shapes = self._shape(left, 0), self._shape(right, 1)
        nothing = Link(left.name, right.name, left.slices, right.slices, transpose=(-1,), by=by)
        yield from layouts(*shapes, nothing, self.channels)

    def _shape(self, piece: Piece, side: int) -> tuple[int, ...]:
        return piece.of(np.empty(self.shapes[side][piece.name], dtype=bool)).shape

    def _round(self, fill: Fill) -> bool:
        """Look at the gradients once; link what they tell, or split what they tell to be fused."""
        self.last = signals(self.left, self.right, self.links, self.batch, len(self.links), fill)
        return (
            self._take(self._told())
            or self._take(self._by_function())
            or self._take(self._by_module())
            or self._take(self._by_trial())
            or self._split()
            or self._take(self._by_elimination())
        )

    def _by_function(self) -> list[Link]:
        """Pairs that are each other's nearest by far, in a layout that is the nearest by far."""
        ranked = self._ranked()
        found = []
        for distance, link in sorted(ranked, key=lambda one: one[0]):
            if distance > NEAR:
                break
            pair = Piece(link.left, link.left_slice), Piece(link.right, link.right_slice)
            rivals = [
                other
                for other, one in ranked
                if one != link
                and (
                    Piece(one.left, one.left_slice) == pair[0] or Piece(one.right, one.right_slice) == pair[1]
                )
            ]
            if min(rivals, default=np.inf) >= MARGIN * max(distance, self.floor):
                found.append(link)
        return found

    def _ranked(self) -> list[tuple[float, Link]]:
        """Every layout of every pair that could be, with its distance; a pair that no layout makes near is there once."""
        assert self.last is not None
        ranked = []
        for left, right in itertools.product(*self.open):
            coarse = self.last.invariant_distance(left, right)
            if coarse is None:
                continue
            if coarse > NEAR:
                ranked.append((coarse, Link(left.name, right.name, left.slices, right.slices)))
                continue
            links = list(self._layouts(left, right, "function"))
            distances = [(self.last.distance(link), link) for link in links]
            ranked += [(one, link) for one, link in distances if one is not None]
        return ranked

    def _by_module(self) -> list[Link]:
        """Where the function does not tell, the names of modules that are linked do."""
        return [
            link
            for left, right in self._of_linked_modules()
            if (link := self._near(left, right, "module", unknown=True))
        ]

    def _of_linked_modules(self) -> list[tuple[Piece, Piece]]:
        """Open pairs of one kind in modules of which other parameters are linked, where that leaves no choice."""
        owners = {(names.owner(one.left), names.owner(one.right)) for one in self.links}
        pairs = [
            (one, two)
            for one, two in itertools.product(*self.open)
            if (names.owner(one.name), names.owner(two.name)) in owners
            and names.word(one.name) == names.word(two.name)
        ]
        firsts, seconds = [one for one, _ in pairs], [two for _, two in pairs]
        return [(one, two) for one, two in pairs if firsts.count(one) == seconds.count(two) == 1]

    def _by_trial(self) -> list[Link]:
        """A pair that has no rival, but several layouts that are as near: the one under which all else stays near."""
        best: dict[tuple[Piece, Piece], list[Link]] = {}
        ranked = sorted(self._ranked(), key=lambda one: one[0])
        for distance, link in ranked:
            if distance <= NEAR:
                best.setdefault(_pair(link), []).append(link)
        for pair, links in best.items():
            rivals = [
                other for other in best if other != pair and (other[0] == pair[0] or other[1] == pair[1])
            ]
            if not rivals and 1 < len(links) <= MOST_LAYOUTS and (best_link := self._tried(links)):
                return [best_link]
        return []

    def _tried(self, links: Sequence[Link]) -> Link | None:
        """The one of these under which both losses, and all gradients that are linked, are nearest by far."""
        found = sorted(((self._strain(link), link) for link in links), key=lambda one: one[0])
        (best, link), (second, _) = found[0], found[1]
        return link if best <= NEAR and second >= MARGIN * max(best, self.floor) else None

    def _strain(self, link: Link) -> float:
        """How far apart losses and linked gradients are if this link is taken."""
        links = [*self.links, link]
        tried = signals(self.left, self.right, links, self.batch, len(links), FILLS[0])
        return max([tried.loss_apart, *(tried.distance(one) or 0.0 for one in links)])

    def _by_loss(self) -> list[Link]:
        """What names or modules tell, though the gradients are not alike: if both losses are, once it is filled."""
        pairs = dict.fromkeys(self._of_linked_modules(), "module")
        if self.by_name:
            found = names.matched(*([one.name for one in side if not one.slices] for side in self.open))
            pairs |= {(Piece(left), Piece(right)): by for (left, right), by in found.items()}
        taken: list[Link] = []
        plain = signals(self.left, self.right, self.links, self.batch, 0, FILLS[0]).loss_apart
        for (left, right), by in pairs.items():
            for link in self._layouts(left, right, by):
                tried = signals(self.left, self.right, [*self.links, *taken, link], self.batch, 0, FILLS[0])
                if tried.loss_apart <= max(3 * plain, self.floor):
                    taken.append(link)
                    break
        return taken

    def _split(self) -> bool:
        """Cut the first open piece each of whose parts is the counterpart of another, or of a part of one."""
        for side in (0, 1):
            for piece in self.open[side]:
                for parts in self._cuts(piece, side):
                    if self._have_counterparts(parts, side, self.open[1 - side]):
                        self._replace(piece, side, parts)
                        return True
                    for other in self._alike(piece, side):
                        for others in self._cuts(other, 1 - side):
                            if len(others) == len(parts) and self._have_counterparts(parts, side, others):
                                self._replace(piece, side, parts)
                                self._replace(other, 1 - side, others)
                                return True
        return False

    def _replace(self, piece: Piece, side: int, parts: Sequence[Piece]) -> None:
        self.open[side].remove(piece)
        self.open[side].extend(parts)

    def _cuts(self, piece: Piece, side: int) -> Iterator[list[Piece]]:
        """Into equal parts; and into parts as large as two of the other side's are."""
        shape = self._shape(piece, side)
        size = self._size(piece, side)
        others = [self._size(one, 1 - side) for one in self.open[1 - side]]
        for axis, length in enumerate(shape):
            cut_before = axis < len(piece.slices) and shape[axis] < self.shapes[side][piece.name][axis]
            for parts in PARTS:
                if not cut_before and length % parts == 0 and length > parts:
                    yield piece.cut(shape, axis, [length // parts] * parts)
            for one, two in itertools.permutations(dict.fromkeys(others), 2):
                if one + two == size and one * length % size == 0:
                    yield piece.cut(shape, axis, [one * length // size, two * length // size])

    def _alike(self, piece: Piece, side: int) -> list[Piece]:
        """The other side's open pieces with the same numbers, but in no layout: gates in another order, say."""
        assert self.last is not None
        found = []
        for other in self.open[1 - side]:
            pair = (piece, other) if side == 0 else (other, piece)
            coarse = self._coarse(*pair)
            if coarse is not None and coarse <= NEAR:
                distances = [self.last.distance(one) for one in self._layouts(*pair, "")]
                if all(one is None or one > NEAR for one in distances):
                    found.append(other)
        return found

    def _coarse(self, left: Piece, right: Piece) -> float | None:
        assert self.last is not None
        return self.last.invariant_distance(left, right)

    def _have_counterparts(self, parts: Sequence[Piece], side: int, others: Sequence[Piece]) -> bool:
        """Whether each part is near to another one of `others`, or, but for most of them, both have no gradient."""
        taken: dict[Piece, bool] = {}
        for part in parts:
            told = [(self._matches(part, other, side), other) for other in others if other not in taken]
            best = next((one for by in (True, False) for one in told if one[0] is by), None)
            if best is None:
                return False
            taken[best[1]] = bool(best[0])
        return 2 * sum(taken.values()) > len(parts)

    def _matches(self, piece: Piece, other: Piece, side: int) -> bool | None:
        """True if the gradients are near, False if there are none on both sides; None if it is no counterpart."""
        if self._size(piece, side) != self._size(other, 1 - side):
            return None
        distance = self._coarse(*((piece, other) if side == 0 else (other, piece)))
        if distance is None:
            return False if self._silent(piece, side) and self._silent(other, 1 - side) else None
        return True if distance <= NEAR else None

    def _silent(self, piece: Piece, side: int) -> bool:
        """Whether a piece has no gradient to speak of: a bias before a normalisation, or of keys before a softmax."""
        assert self.last is not None
        return self.last.silent(piece, side)

    def _size(self, piece: Piece, side: int) -> int:
        return int(np.prod(self._shape(piece, side)))

    def _by_elimination(self) -> list[Link]:
        """Two without a gradient that are alone of their size; laid out as what was cut from the same array, if need be."""
        for left, right in itertools.product(*self.open):
            size = self._size(left, 0)
            alone = [sum(self._size(one, side) == size for one in self.open[side]) == 1 for side in (0, 1)]
            if size != self._size(right, 1) or not all(alone):
                continue
            if self._silent(left, 0) and self._silent(right, 1):
                links = list(self._layouts(left, right, "elimination"))
                known = {
                    (one.reshape, one.transpose)
                    for one in self.links
                    if left.name == one.left or right.name == one.right
                }
                alike = [one for one in links if (one.reshape, one.transpose) in known]
                for found in (links, alike):
                    if len(found) == 1:
                        return found
        return []

    def _confirm(self) -> None:
        """The distance of every link, now that all is filled that could be linked."""
        self.last = signals(self.left, self.right, self.links, self.batch, 1_000, FILLS[0])
        self.distances = {link: self.last.distance(link) for link in self.links}

    def _linked_buffers(self) -> list[Link]:
        """Buffers of one shape that move by the same, and no other does."""
        assert self.last is not None
        found = []
        moved = self.last.left_buffers, self.last.right_buffers
        distances = {
            (one, two): float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-300))
            for one, a in moved[0].items()
            for two, b in moved[1].items()
            if a.shape == b.shape and a.size
        }
        for (one, two), distance in distances.items():
            rivals = [
                other
                for pair, other in distances.items()
                if pair != (one, two) and (pair[0] == one or pair[1] == two)
            ]
            if distance <= NEAR and min(rivals, default=np.inf) >= MARGIN * max(distance, self.floor):
                found.append(Link(one, two, by="function", distance=distance))
        return found

    def _candidates(self, piece: Piece, side: int) -> tuple[str, ...]:
        """The other side's open pieces of its size, or larger ones that it may be a part of."""
        size = self._size(piece, side)
        sizes = {one: self._size(one, 1 - side) for one in self.open[1 - side]}
        found = [str(one) for one, other in sizes.items() if other == size]
        found += [f"a part of {one}" for one, other in sizes.items() if other > size and other % size == 0]
        found += [
            f"made of {one} and others" for one, other in sizes.items() if other < size and size % other == 0
        ]
        return tuple(found) or ("nothing that it could be is left on the other side",)


def _pair(link: Link) -> tuple[Piece, Piece]:
    return Piece(link.left, link.left_slice), Piece(link.right, link.right_slice)
