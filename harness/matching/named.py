"""All pairs that names suggest, in one look: both sides hold the same random numbers, and every gradient confirms or doubts its own pair."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lockstep.harness.mapping import names
from lockstep.harness.mapping.link import NEAR, Link
from lockstep.harness.matching import evidence
from lockstep.harness.matching.likely import usual
from lockstep.harness.matching.pieces import cut, in_pieces
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.signals import Signals
from lockstep.harness.matching.slices import Arrangement, Pair, ParameterSlice, pair_of

Options = list[list[Link]]
"""Of each pair the layouts in which its shapes fit."""

MOST_TIES = 8
"""Ties that are tried out: each costs two steps of both sides."""


@dataclass(frozen=True)
class Judged:
    """One pair that names suggest.

    Attributes:
        layouts: the ones that are possible.
        near: those in which the gradients are near.
        doubted: whether they are in none, though there are gradients.
    """

    layouts: Sequence[Link]
    near: Sequence[Link]
    doubted: bool

    @property
    def left(self) -> Sequence[Link]:
        """The layouts that are left: those that are near; where the probe shows nothing, all that fit."""
        return self.near or (() if self.doubted else self.layouts)


def link_by_name(search: Search, probe: Probe) -> None:
    """Link the pairs that names suggest and gradients do not doubt.

    Numbers that an uncertain layout would put elsewhere are equal, so that the two sides compute the same function if the
    names are right, whichever the layouts are; the gradients tell these apart. Where the losses agree under random numbers,
    the names are right: a gradient that is not the same is the port's fault.
    """
    still = search.still
    hypotheses = _hypotheses(search, probe)
    first = next(hypotheses, None)
    if first is None:
        return
    right = first if first.fits(search) else next((one for one in hypotheses if one.fits(search)), None)
    chosen = right or first
    search.suggested, search.ties, search.probe = chosen.signals, chosen.ties, chosen.probe
    search.arranged = chosen.pieces or first.pieces
    judged = chosen.judged()
    if chosen.same(search):
        judged = [_by_loss(one) for one in judged]
    elif right is None:
        # Nothing is known of what shows no gradient while the sides compute something else.
        search.doubted = True
        search.still = still
        judged = [one for one in judged if one.near]
    _cut(search, [one for one in judged if one.left])
    search.take(one.left[0] for one in judged if len(one.left) == 1)
    _lay_out(search, [one.left for one in judged if len(one.left) > 1])


@dataclass(frozen=True)
class Hypothesis:
    """How the pairs that names suggest may be meant, and both sides' gradients then.

    Attributes:
        options: the layouts of each pair.
        probe: the values of everything else.
        ties: parameters of one side that the other side has tied to another one.
        pieces: arrays that are linked in pieces.
        signals: the gradients.
    """

    options: Options
    probe: Probe
    ties: list[Link]
    pieces: Sequence[Arrangement]
    signals: Signals

    def same(self, search: Search) -> bool:
        """Whether both sides compute the same loss."""
        return search.same_loss(self.signals.loss_distance, 0.0)

    def fits(self, search: Search) -> bool:
        """Whether nothing contradicts it: the losses are the same, or all gradients near."""
        return self.same(search) or not any(one.doubted for one in self.judged())

    def judged(self) -> list[Judged]:
        """What the gradients show of each pair."""
        return [_judge(self.signals, one) for one in self.options]


def _hypotheses(search: Search, probe: Probe) -> Iterator[Hypothesis]:
    """The simplest first; none where no names match."""
    pairs = _whole(search)
    pieces = in_pieces(search, pairs)

    def looked(
        options: Options, probe: Probe, pieces: Sequence[Arrangement] = pieces, ties: Sequence[Link] = ()
    ) -> Hypothesis:
        signals = search.look(probe, possible=[*options, *([one] for one in ties)])
        return Hypothesis(options, probe, list(ties), pieces, signals)

    plain = _options(search, pairs, pieces, flattened=False)
    if not plain:
        return
    yield looked(plain, probe)
    for choice in range(1, max((one.axes for one in pieces), default=1)):
        others = in_pieces(search, pairs, choice)
        yield looked(_options(search, pairs, others, flattened=False), probe, others)
    alone = _without_a_name(search, pairs, pieces)
    if any(names.kind(one.name) == "b" for side in alone for one in side):
        # One side lacks a bias: it is zero there.
        yield looked(plain, dataclasses.replace(probe, biases=0.0))
    flattened = _options(search, pairs, pieces, flattened=True)
    if [*map(len, flattened)] != [*map(len, plain)]:
        yield looked(flattened, probe)
    for tie in itertools.islice(_possible_ties(search, plain, alone), MOST_TIES):
        yield looked(plain, probe, ties=[tie])
    if pieces and (whole := _options(search, pairs, (), flattened=False)):
        yield looked(whole, probe, ())


def _without_a_name(
    search: Search, pairs: Iterable[Pair], pieces: Sequence[Arrangement]
) -> list[list[ParameterSlice]]:
    """The open parameters of each side that no name matches."""
    named = [
        {pair[side] for pair in pairs} | {part for one in pieces for part in one.on(side)} for side in (0, 1)
    ]
    return [[one for one in search.open[side] if one not in named[side]] for side in (0, 1)]


def _possible_ties(
    search: Search, options: Options, alone: Sequence[Sequence[ParameterSlice]]
) -> Iterator[Link]:
    """Links of what no name matches to a parameter of the other side that has another counterpart by name."""
    for side in (0, 1):
        for one, links in itertools.product(alone[side], options):
            other = pair_of(links[0])[1 - side]
            if search.size(one, side) == search.size(other, 1 - side):
                pair = (one, other) if side == 0 else (other, one)
                yield from search.layouts(*pair, "tied", False)


def _whole(search: Search) -> dict[Pair, str]:
    """Pairs of whole parameters that names match; what one side trains may be frozen on the other."""
    held = [
        [*(one.name for one in search.open[side] if not one.slices), *sorted(search.resting[side])]
        for side in (0, 1)
    ]
    found = names.matched(held[0], held[1], search.sizes)
    return {(ParameterSlice(left), ParameterSlice(right)): by for (left, right), by in found.items()}


def _options(
    search: Search, pairs: Mapping[Pair, str], pieces: Sequence[Arrangement], flattened: bool
) -> Options:
    """The layouts of every pair; what is frozen on one side is set as parameters are."""
    suggested = [*pairs.items(), *(pair for one in pieces for pair in one.pairs.items())]
    options = [links for pair, by in suggested if (links := [*search.layouts(*pair, by, flattened)])]
    for side, attribute in enumerate(("left", "right")):
        held = {getattr(links[0], attribute) for links in options}
        search.hold_still(side, held & search.resting[side])
    return options


def _cut(search: Search, judged: Sequence[Judged]) -> None:
    """Cut the arrays that are linked in pieces."""
    linked = {pair_of(one.layouts[0]) for one in judged}
    cut(search, [one for one in search.arranged if not linked.isdisjoint(one.pairs)])


def _judge(signals: Signals, layouts: Sequence[Link]) -> Judged:
    distances = [signals.distance(one) for one in layouts]
    near = [
        one
        for one, distance in zip(layouts, distances, strict=True)
        if distance is not None and distance <= NEAR
    ]
    return Judged(layouts, near, not near and any(one is not None for one in distances))


def _by_loss(one: Judged) -> Judged:
    """A pair under the same losses: no gradient doubts it."""
    if not one.doubted:
        return one
    return Judged([dataclasses.replace(link, by="loss") for link in one.layouts], (), False)


def _lay_out(search: Search, undecided: Sequence[Sequence[Link]]) -> None:
    """Link the pairs whose gradients leave several layouts: in that of others of their kind, or the one under which all stays near."""
    likely = [link for layouts in undecided if (link := usual(search, layouts))]
    if likely and search.same_loss(search.look(search.probe, likely).loss_distance, 0.0):
        search.take(likely)
    for layouts in undecided:
        if pair_of(layouts[0])[0] in search.open[0] and len(layouts) <= evidence.MOST_LAYOUTS:
            search.take([one for one in [evidence.tried(search, layouts, search.probe)] if one])
