"""The state of a search for a mapping: the links, the open slices of both sides, and the gradients last evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import FLOOR, Link, slice_shape
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.signals import Signals, signals
from lockstep.harness.matching.slices import Arrangement, ParameterSlice, pair_of
from lockstep.harness.matching.stepped import Stepped

Shapes = Mapping[str, tuple[int, ...]]

MARGIN = 10.0
"""The next best counterpart, or layout, must be so many times further away."""


class Search:
    """One search, on the left (0) and on the right (1) side.

    Attributes:
        sides: the two trainers, with the batch of each.
        shapes, buffers: of both sides, by name.
        sizes: how many numbers each parameter and buffer of both sides holds, by name.
        resting: buffers of each side that its own step does not change.
        used: parameters of each side of which its own step has a gradient.
        still: buffers that no step changes, such as frozen parameters, where the other side has one of the same size.
        links: the links so far.
        open: slices of both sides that are not linked.
        ambiguous: pairs without a rival whose layout is not certain, several being as near; they are open.
        ties: links of parameters of one side that the other side has tied to another one: in no mapping, but in every probe.
        in_vain: layouts of a pair of which a trial chose none, with the numbers of links and of ambiguous pairs at the time.
        last: the gradients last evaluated.
        suggested: those while all pairs that names suggest were linked; None where names suggest none.
        doubted: whether they contradict such a pair.
        probe: the values of unknown parameters under which most was seen.
        arranged: arrays whose pieces are the other side's parameters, by names and sizes; cut or not.
    """

    last: Signals
    suggested: Signals | None = None
    doubted: bool = False
    probe = Probe(0.5, 1.0)

    def __init__(self, left: Stepped, right: Stepped) -> None:
        self.sides = left, right
        self.shapes, self.buffers = (left.parameters, right.parameters), (left.buffers, right.buffers)
        left_shapes, right_shapes = ({**self.buffers[side], **self.shapes[side]} for side in (0, 1))
        self._every: tuple[Shapes, Shapes] = (left_shapes, right_shapes)
        self.sizes = _sizes(left_shapes), _sizes(right_shapes)
        self.resting, self.used = self._own_steps()
        self.still = self._still()
        self.links: list[Link] = []
        self.open = tuple([ParameterSlice(name) for name in shapes] for shapes in self.shapes)
        self.ambiguous: list[list[Link]] = []
        self.ties: list[Link] = []
        self.arranged: Sequence[Arrangement] = ()
        self.in_vain: set[tuple[frozenset[Link], int, int]] = set()
        self._floor = FLOOR[left.trainer.dtype]
        self._channels = sorted(
            {length for shapes in self.shapes for shape in shapes.values() for length in shape}
        )

    def _own_steps(self) -> tuple[tuple[set[str], set[str]], tuple[set[str], set[str]]]:
        """Of one step of each side as it is: the buffers that do not move, and the parameters that have a gradient."""
        resting = [{name for name, one in side.own.moved.items() if not one.any()} for side in self.sides]
        used = [{name for name, one in side.own.gradients.items() if one.any()} for side in self.sides]
        return (resting[0], resting[1]), (used[0], used[1])

    def _still(self) -> tuple[list[str], list[str]]:
        sizes = [{math.prod(self.buffers[side][name]) for name in self.resting[side]} for side in (0, 1)]
        left, right = (
            [
                name
                for name, shape in self.buffers[side].items()
                if name in self.resting[side] and math.prod(shape) in sizes[0] & sizes[1]
            ]
            for side in (0, 1)
        )
        return left, right

    @property
    def trains(self) -> bool:
        """Whether the losses of both sides depend on any parameter; else nothing is evidence."""
        return all(self.used)

    def look(
        self,
        probe: Probe,
        extra: Sequence[Link] = (),
        seed: int | None = None,
        possible: Sequence[Sequence[Link]] = (),
    ) -> Signals:
        """The gradients under a probe, if `extra` were linked too, and pairs in one of several `possible` layouts.

        The seed is by default the number of links.
        """
        links = [*self.links, *extra]
        taken = {pair_of(one) for one in extra} | {pair_of(one[0]) for one in possible}
        uncertain = [one for one in self.ambiguous if pair_of(one[0]) not in taken]
        known = [[one] for one in links] + uncertain + list(possible) + [[one] for one in self.ties]
        seed = len(links) if seed is None else seed
        return signals(self.sides, known, self.still, seed, probe)

    def take(self, links: Iterable[Link]) -> bool:
        """Add these links, if there are any; their slices are no longer open."""
        new = list(links)
        for link in new:
            self.links.append(link)
            for side, array_slice in enumerate(pair_of(link)):
                if array_slice in self.open[side]:  # it may be a buffer
                    self.open[side].remove(array_slice)
        taken = [pair_of(link) for link in new]
        self.ambiguous = [one for one in self.ambiguous if pair_of(one[0]) not in taken]
        return bool(new)

    def release(self, link: Link) -> None:
        """Take a link back: its slices are open again."""
        self.links.remove(link)
        for side, array_slice in enumerate(pair_of(link)):
            if array_slice.name in self.shapes[side]:
                self.open[side].append(array_slice)

    def replace(self, array_slice: ParameterSlice, side: int, parts: Sequence[ParameterSlice]) -> None:
        """Replace an open slice by its parts."""
        self.open[side].remove(array_slice)
        self.open[side].extend(parts)
        self.ambiguous = [one for one in self.ambiguous if pair_of(one[0])[side] != array_slice]

    def hold_still(self, side: int, names: Iterable[str]) -> None:
        """Set these buffers of a side as parameters are, too."""
        still = [*self.still]
        still[side] = [*dict.fromkeys([*still[side], *sorted(names)])]
        self.still = still[0], still[1]

    def axes(self, side: int, name: str) -> tuple[int, ...]:
        """The shape of a parameter or buffer."""
        return self._every[side][name]

    def shape(self, array_slice: ParameterSlice, side: int) -> tuple[int, ...]:
        """The shape of a slice."""
        return slice_shape(self._every[side][array_slice.name], array_slice.slices)

    def size(self, array_slice: ParameterSlice, side: int) -> int:
        """How many numbers a slice holds."""
        if not array_slice.slices:
            return self.sizes[side][array_slice.name]
        return math.prod(self.shape(array_slice, side))

    def layouts(
        self, left: ParameterSlice, right: ParameterSlice, by: str = "", flattened: bool = True
    ) -> Iterator[Link]:
        """Every link of two slices; those of flattened images too, where `flattened` says so."""
        shapes = self.shape(left, 0), self.shape(right, 1)
        nothing = Link(left.name, right.name, left.slices, right.slices, transpose=(-1,), by=by)
        yield from layouts(*shapes, nothing, self._channels if flattened else ())

    def far(self, rivals: Iterable[float], distance: float) -> bool:
        """Whether all rivals are so much further away that there is no choice."""
        return min(rivals, default=np.inf) >= MARGIN * max(distance, self._floor)

    def same_loss(self, distance: float, plain: float) -> bool:
        """Whether the distance of the losses is no larger than before, but for rounding."""
        return distance <= max(3 * plain, self._floor)


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}
