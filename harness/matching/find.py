"""Finding a mapping: by name, by shape, and by function; parameters that stay uncertain are listed with their candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Batch
from lockstep.harness.adopt.randomness import refuse_random
from lockstep.harness.adopt.task import task_of
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import OPTIONAL, Mapping
from lockstep.harness.matching import buffers, evidence
from lockstep.harness.matching.fused import split
from lockstep.harness.matching.masks import both_keeping_all
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.search import NEAR, Search
from lockstep.harness.matching.slices import ParameterSlice

PROBES = (Probe(0.5, 1.0), Probe(0.5, 0.0), Probe(0.25, 1.0), Probe(1.0, 1.0))
"""Values for unknown parameters, tried in turn: under one of them a unit may be dead or a softmax saturated."""


def find_mapping(left: Adopted, right: Adopted, batches: Iterable[Any]) -> Mapping:
    """Which parameter of `left` is which of `right`, and how that was found.

    Names and shapes are tried first and compared with the function; where the function contradicts them, it alone decides.
    Parameters that cannot be distinguished are in `Mapping.left_over`.

    Args:
        left, right: adopted trainers of the same model.
        batches: pairs (x, y); the first is used.

    Raises:
        AdoptionError: the dtypes differ, there is no batch, or a side draws random numbers.
    """
    (batch,) = task_of([left, right], itertools.islice(batches, 1), None, "mapping").data
    unmasked = both_keeping_all(left, right, batch)
    for one, its in zip((left, right), unmasked, strict=True):
        refuse_random(one, its)
    with np.errstate(all="ignore"):
        by_name = _Result(left, right, unmasked, by_name=True)
        if by_name.confirmed:
            return by_name.mapping()
        by_function = _Result(left, right, unmasked, by_name=False)
        return (by_function if by_function.confirmed else by_name).mapping()


class _Result:
    """The links of a finished search, each with the distance of its gradients."""

    def __init__(self, left: Adopted, right: Adopted, batches: tuple[Batch, Batch], by_name: bool) -> None:
        self.search = Search(left, right, batches)
        _run(self.search, by_name)
        self.search.ambiguous = []
        trained = list(self.search.links)
        self.frozen = evidence.frozen(self.search, PROBES[0])
        self.search.last = self.search.look(PROBES[0], seed=1_000)
        self.distances = {link: self.search.last.distance(link) for link in trained}

    @property
    def confirmed(self) -> bool:
        """Whether everything is linked, and the gradients of every link are near."""
        known = [one for one in self.distances.values() if one is not None]
        return not any(self.search.open) and all(one <= NEAR for one in known) and bool(known)

    def mapping(self) -> Mapping:
        """The links; one found by function alone that is not confirmed in the end is left over."""
        dropped = [
            one for one in self.distances if one.by == "function" and (self.distances[one] or 0.0) > NEAR
        ]
        links = [
            dataclasses.replace(one, distance=distance)
            for one, distance in self.distances.items()
            if one not in dropped
        ]
        links += [*self.frozen, *evidence.buffers(self.search)]
        links += buffers.by_name(self.search, links)
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

    def _candidates(self, array_slice: ParameterSlice, side: int) -> tuple[str, ...]:
        """The other side's open slices of its size, or larger ones that it may be a part of."""
        size = self.search.size(array_slice, side)
        sizes = {one: self.search.size(one, 1 - side) for one in self.search.open[1 - side]}
        candidates = [str(one) for one, other in sizes.items() if other == size]
        candidates += [
            f"a part of {one}" for one, other in sizes.items() if other > size and other % size == 0
        ]
        candidates += [
            f"made of {one} and others" for one, other in sizes.items() if other < size and size % other == 0
        ]
        return tuple(candidates) or ("no candidate is left on the other side",)


def _run(search: Search, by_name: bool) -> None:
    """Link until no evidence is left."""
    tried: list[list[list[Link]]] = []
    while any(search.open):
        if any(_round(search, by_name, probe) for probe in PROBES):
            tried = []
        elif search.ambiguous in tried:
            break
        else:
            # A pair of which only the layout is uncertain need not be constant: a constant may hide all layers before it.
            tried.append(search.ambiguous)
            search.ambiguous = evidence.ambiguous(search)
    if any(search.open):
        search.take(evidence.by_loss(search, by_name, PROBES[0]))


def _round(search: Search, by_name: bool, probe: Probe) -> bool:
    """Evaluate the gradients once; link the pairs that they show, or split a parameter that they show to be fused."""
    search.last = search.look(probe)
    return (
        search.take(evidence.match_by_name(search, by_name))
        or search.take(evidence.by_function(search))
        or search.take(evidence.by_module(search))
        or search.take(evidence.by_trial(search, PROBES[0]))
        or split(search)
        or search.take(evidence.by_elimination(search))
    )
