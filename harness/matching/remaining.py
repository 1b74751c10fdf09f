"""Pairs that no gradient confirms, but that names, modules or shapes leave without a choice: a wrong port is diagnosed, not refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from lockstep.harness.mapping import names
from lockstep.harness.mapping.link import Link
from lockstep.harness.matching import evidence
from lockstep.harness.matching.likely import likeliest, usual
from lockstep.harness.matching.pieces import cut
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.signals import Signals
from lockstep.harness.matching.slices import Pair, ParameterSlice, pair_of


def link_remaining(search: Search, signals: Signals) -> list[Link]:
    """Link all that only one candidate is left for, the surest first; what has several stays open.

    Args:
        search: that found no more evidence.
        signals: gradients that show which layout is the likeliest.
    """
    linked: list[Link] = []
    while new := next(
        (links for pairs in _without_choice(search) if (links := _laid_out(search, signals, pairs))), []
    ):
        linked += new
    return linked


def _without_choice(search: Search) -> Iterator[dict[Pair, str]]:
    yield evidence.named(search)
    yield _in_pieces(search)
    yield dict.fromkeys(evidence.of_linked_names(search), "module")
    yield dict.fromkeys(_in_series(search), "series")
    yield dict.fromkeys(evidence.without_choice([*evidence.of_one_size(search)]), "shape")


def _in_pieces(search: Search) -> dict[Pair, str]:
    """The open pieces of arrays that are cut, with their counterparts."""
    cut(search, search.arranged)
    return {
        pair: by
        for one in search.arranged
        for pair, by in one.pairs.items()
        if pair[0] in search.open[0] and pair[1] in search.open[1]
    }


def _laid_out(search: Search, signals: Signals, pairs: dict[Pair, str]) -> list[Link]:
    """The pairs that are linked, each in its only layout, the likeliest, the usual, or the only plain one.

    Those that are linked before show what is usual.
    """
    undecided = [[*search.layouts(*pair, by)] for pair, by in pairs.items()]
    linked: list[Link] = []
    for decide in (_only, partial(likeliest, signals), partial(usual, search), partial(_plain, search)):
        chosen = [decide(layouts) for layouts in undecided]
        undecided = [one for one, link in zip(undecided, chosen, strict=True) if link is None]
        linked += [one for one in chosen if one]
        search.take(one for one in chosen if one)
    return linked


def _only(layouts: Sequence[Link]) -> Link | None:
    return layouts[0] if len(layouts) == 1 else None


def _plain(search: Search, layouts: Sequence[Link]) -> Link | None:
    """The only layout that is not of a flattened image."""
    if not layouts:
        return None
    return _only([*search.layouts(*pair_of(layouts[0]), layouts[0].by, flattened=False)])


def _in_series(search: Search) -> Iterator[Pair]:
    """Names that differ by a number alone, ``w0``, ``w1`` and ``0.weight``, ``2.weight``: in the order of the numbers, if they are as many."""
    sides: list[dict[int, dict[str, list[tuple[tuple[int, ...], ParameterSlice]]]]] = [{}, {}]
    for side, by_size in enumerate(sides):
        for one in search.open[side]:
            name, numbers = names.series(one.name)
            by_size.setdefault(search.size(one, side), {}).setdefault(name, []).append((numbers, one))
    for size, ours in sides[0].items():
        theirs = sides[1].get(size, {})
        if len(ours) == len(theirs) == 1:
            left, right = (sorted(*one.values(), key=lambda member: member[0]) for one in (ours, theirs))
            if len(left) == len(right) and all(numbers for numbers, _ in (*left, *right)):
                yield from zip((one for _, one in left), (one for _, one in right), strict=True)
