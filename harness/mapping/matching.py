"""Finding a mapping: by name, by shape, and by function; what remains uncertain is left over, with its candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Batch
from lockstep.harness.adopt.task import task_of
from lockstep.harness.adopt.training import refuse_random
from lockstep.harness.mapping import evidence
from lockstep.harness.mapping.fused import split
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import OPTIONAL, Mapping
from lockstep.harness.mapping.masks import both_kept
from lockstep.harness.mapping.probes import Fill
from lockstep.harness.mapping.search import NEAR, Search
from lockstep.harness.mapping.slices import Piece

FILLS = (Fill(0.5, 1.0), Fill(0.5, 0.0), Fill(0.25, 1.0), Fill(1.0, 1.0))
"""What unknown parameters are filled with, tried in turn: under one a unit may be dead or a softmax saturated."""


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
    (batch,) = task_of([left, right], itertools.islice(batches, 1), None, "mapping").data
    seen = both_kept(left, right, batch)
    for one, its in zip((left, right), seen, strict=True):
        refuse_random(one, its)
    with np.errstate(all="ignore"):
        by_name = _Found(left, right, seen, by_name=True)
        if by_name.confirmed:
            return by_name.mapping()
        by_function = _Found(left, right, seen, by_name=False)
        return (by_function if by_function.confirmed else by_name).mapping()


class _Found:
    """What a search found, and the distance of every link now that all is filled that could be linked."""

    def __init__(self, left: Adopted, right: Adopted, batches: tuple[Batch, Batch], by_name: bool) -> None:
        self.search = Search(left, right, batches)
        _run(self.search, by_name)
        self.search.loose = []
        trained = list(self.search.links)
        self.frozen = evidence.frozen(self.search, FILLS[0])
        self.search.last = self.search.look(FILLS[0], seed=1_000)
        self.distances = {link: self.search.last.distance(link) for link in trained}

    @property
    def confirmed(self) -> bool:
        """Whether everything is linked and nothing that has a gradient is far apart."""
        known = [one for one in self.distances.values() if one is not None]
        return not any(self.search.open) and all(one <= NEAR for one in known) and bool(known)

    def mapping(self) -> Mapping:
        """What was found; a link by function alone that does not hold in the end is left over."""
        dropped = [
            one for one in self.distances if one.by == "function" and (self.distances[one] or 0.0) > NEAR
        ]
        links = [
            dataclasses.replace(one, distance=distance)
            for one, distance in self.distances.items()
            if one not in dropped
        ]
        links += [*self.frozen, *evidence.buffers(self.search)]
        linked = {(side, getattr(one, side)) for one in links for side in ("left", "right")}
        over: dict[str, tuple[str, ...]] = {}
        for index, side in enumerate(("left", "right")):
            over |= {f"{side}:{one}": self._candidates(one, index) for one in self.search.open[index]}
            over |= {
                f"{side}:{one}": (OPTIONAL,)
                for one in self.search.buffers[index]
                if (side, one) not in linked
            }
        over |= {f"left:{one.left}": (f"{one.right} (not confirmed)",) for one in dropped}
        over |= {f"right:{one.right}": (f"{one.left} (not confirmed)",) for one in dropped}
        return Mapping(tuple(sorted(links, key=lambda one: (one.left, one.left_slice))), over)

    def _candidates(self, piece: Piece, side: int) -> tuple[str, ...]:
        """The other side's open pieces of its size, or larger ones that it may be a part of."""
        size = self.search.size(piece, side)
        sizes = {one: self.search.size(one, 1 - side) for one in self.search.open[1 - side]}
        found = [str(one) for one, other in sizes.items() if other == size]
        found += [f"a part of {one}" for one, other in sizes.items() if other > size and other % size == 0]
        found += [
            f"made of {one} and others" for one, other in sizes.items() if other < size and size % other == 0
        ]
        return tuple(found) or ("nothing that it could be is left on the other side",)


def _run(search: Search, by_name: bool) -> None:
    """Link until nothing more can be told."""
    tried: list[list[list[Link]]] = []
    while any(search.open):
        if any(_round(search, by_name, fill) for fill in FILLS):
            tried = []
        elif search.loose in tried:
            break
        else:
            # What is certain but for its layout need not be constant: that may hide all that comes before it.
            tried.append(search.loose)
            search.loose = evidence.loose(search)
    if any(search.open):
        search.take(evidence.by_loss(search, by_name, FILLS[0]))


def _round(search: Search, by_name: bool, fill: Fill) -> bool:
    """Look at the gradients once; link what they tell, or split what they tell to be fused."""
    search.last = search.look(fill)
    return (
        search.take(evidence.told(search, by_name))
        or search.take(evidence.by_function(search))
        or search.take(evidence.by_module(search))
        or search.take(evidence.by_trial(search, FILLS[0]))
        or split(search)
        or search.take(evidence.by_elimination(search))
    )
