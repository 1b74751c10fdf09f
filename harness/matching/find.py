"""Finding a mapping: by name, by shape, and by function; parameters that stay uncertain are listed with their candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.protocol import UNDIVIDED
from lockstep.harness.adopt.randomness import refuse_random
from lockstep.harness.adopt.task import task_of
from lockstep.harness.mapping.link import NEAR, Link
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.matching import buffers, evidence
from lockstep.harness.matching.absent import left_over
from lockstep.harness.matching.fused import split
from lockstep.harness.matching.masks import both_keeping_all
from lockstep.harness.matching.named import link_by_name
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.remaining import link_remaining
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.stepped import Stepped
from lockstep.harness.matching.sums import summed

UNEQUAL = 1e-3
"""Losses that are further apart, while what is linked is random and all else constant, are not of one function.

The distance of a wrong port's: 0.04 to 0.1 (BERT of 2 to 12 layers, another epsilon or activation); of a right one's below 1e-9.
"""

PROBES = (Search.probe, Probe(0.5, 0.0), Probe(0.25, 1.0), Probe(1.0, 1.0))
"""Values for unknown parameters, tried in turn: under one of them a unit may be dead or a softmax saturated."""


def find_mapping(left: Adopted, right: Adopted, batches: Iterable[Any]) -> Mapping:
    """Which parameter of `left` is which of `right`, and how that was found.

    Names that leave no choice are tried first, all at once, and compared with the function; where the function contradicts
    them and another mapping fits, it alone decides. Where none fits, the port is wrong: what names, modules or shapes leave
    one candidate for is linked all the same, and is in `Mapping.unconfirmed`. Where names pair everything, no time is spent
    on the function of a port whose losses differ however its parameters are paired. Parameters that cannot be distinguished are in
    `Mapping.left_over`, and so are those that the other side lacks.

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
        undivided = any(UNDIVIDED in one.capabilities for one in (left, right))
        sides = summed(*(Stepped(*one, undivided) for one in zip((left, right), unmasked, strict=True)))
        named = _Result(sides, by_name=True)
        if named.doubted:
            by_function = _Result(sides, by_name=False, paired=named.paired)
            if by_function.confirmed:
                return by_function.mapping()
        return named.mapping()


class _Result:
    """The links of a finished search, each with the distance of its gradients."""

    def __init__(self, sides: tuple[Stepped, Stepped], by_name: bool, paired: bool = False) -> None:
        """Search.

        Args:
            sides: the two trainers.
            by_name: whether names are evidence.
            paired: whether names pair everything: then the search ends where the losses differ.
        """
        self.search = Search(*sides)
        if by_name:
            link_by_name(self.search, PROBES[0])
        self.paired = by_name and self.search.doubted and _names_pair_all(self.search)
        if not self.paired:
            _run(self.search, by_name, paired)
        self.search.ambiguous = []
        trained = list(self.search.links)
        self.frozen = evidence.frozen(self.search, PROBES[0])
        self.distances = self._measured(trained)

    @property
    def confirmed(self) -> bool:
        """Whether everything is linked that can be, and the gradients of every link are near."""
        known = [one for one in self.distances.values() if one is not None]
        return not any(self.search.open) and all(one <= NEAR for one in known) and bool(known)

    @property
    def doubted(self) -> bool:
        """Whether gradients contradict what names suggest."""
        far = any(
            distance is not None and distance > NEAR and one.by in ("name", "normalised name", "module")
            for one, distance in self.distances.items()
        )
        return self.search.doubted or far

    def mapping(self) -> Mapping:
        """The links, with those that only names, modules or shapes suggest, and what is left over."""
        links = [*self.distances]
        for one in [one for one in links if one.by == "function" and (self.distances[one] or 0.0) > NEAR]:
            self.search.release(one)
            del self.distances[one]
        if any(self.search.open) and self.search.trains:
            signals = self.search.suggested or self.search.last
            new = link_remaining(self.search, signals)
            if self.paired and any(self.search.open):
                before = len(self.search.links)
                _run(self.search, by_name=True)
                new += [*self.search.links[before:], *link_remaining(self.search, signals)]
            if new:
                self.distances |= self._measured(new)
        measured = [dataclasses.replace(one, distance=distance) for one, distance in self.distances.items()]
        measured += [*self.frozen, *evidence.buffers(self.search)]
        measured += buffers.by_name(self.search, measured)
        found = sorted(measured, key=lambda one: (one.left, one.left_slice))
        return Mapping(tuple(found), *left_over(self.search, found))

    def _measured(self, links: Sequence[Link]) -> dict[Link, float | None]:
        """The distance of the gradients of each of these links, while all that is linked is random."""
        self.search.last = self.search.look(self.search.probe, seed=1_000)
        return {link: self.search.last.distance(link) for link in links}


def _names_pair_all(search: Search) -> bool:
    """Whether every open parameter has a counterpart by name, or is cut into such, and some have."""
    pairs = evidence.named(search)
    covered = [
        {pair[side] for pair in pairs} | {part for one in search.arranged for part in one.on(side)}
        for side in (0, 1)
    ]
    return any(search.open) and all(covered[side].issuperset(search.open[side]) for side in (0, 1))


def _run(search: Search, by_name: bool, one_function: bool = False) -> None:
    """Link until no evidence is left; if `one_function`, only while the losses are those of one."""
    tried: list[list[list[Link]]] = []
    while any(search.open):
        if any(_round(search, by_name, probe, one_function) for probe in PROBES):
            tried = []
        elif search.ambiguous in tried or (one_function and _unequal(search)):
            break
        else:
            # A pair of which only the layout is uncertain need not be constant: a constant may hide all layers before it.
            tried.append(search.ambiguous)
            search.ambiguous = evidence.ambiguous(evidence.ranked(search))


def _unequal(search: Search) -> bool:
    """Whether the losses last evaluated show two functions."""
    distance = search.last.loss_distance
    return bool(np.isfinite(distance)) and distance > UNEQUAL


def _round(search: Search, by_name: bool, probe: Probe, one_function: bool) -> bool:
    """Evaluate the gradients once; link the pairs that they show, or split a parameter that they show to be fused."""
    search.last = search.look(probe)
    if one_function and _unequal(search):
        return False
    if search.take(evidence.match_by_name(search, by_name)):
        return True
    ranked = evidence.ranked(search)
    return (
        search.take(evidence.by_function(search, ranked))
        or search.take(evidence.by_module(search))
        or search.take(evidence.by_trial(search, ranked, PROBES[0]))
        or split(search, ranked)
        or search.take(evidence.by_elimination(search))
    )
