"""Evidence for links: each function returns the links that it is sure of, between open slices of the two sides."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from lockstep.harness.mapping import names
from lockstep.harness.mapping.link import NEAR, Link
from lockstep.harness.matching.probes import Probe
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.slices import Pair, ParameterSlice, pair_of

MOST_LAYOUTS = 24
"""Layouts of one pair that are tried out."""

MOST_TRIED = 400
"""Links of buffers that are tried out."""

Ranked = Sequence[tuple[float, Link]]
"""Links in the layouts that are possible, each with the distance of its gradients."""


def match_by_name(search: Search, by_name: bool) -> list[Link]:
    """Pairs whose names match, or whose lengths occur once on each side, in the one layout whose gradients are near."""
    pairs = named(search) if by_name else {}
    taken = [one for pair in pairs for one in pair]
    pairs |= {pair: "shape" for pair in _alone(search) if pair[0] not in taken and pair[1] not in taken}
    return [link for pair, by in pairs.items() if (link := _near(search, *pair, by))]


def named(search: Search) -> dict[Pair, str]:
    """Open pairs of one size whose names match -> how."""
    left, right = ([one.name for one in side if not one.slices] for side in search.open)
    found = names.matched(left, right, search.sizes)
    return {(ParameterSlice(left), ParameterSlice(right)): by for (left, right), by in found.items()}


def _alone(search: Search) -> list[Pair]:
    """Pairs of which there is only one with these lengths."""
    kinds: dict[tuple[int, ...], tuple[list[ParameterSlice], list[ParameterSlice]]] = {}
    for side in (0, 1):
        for array_slice in search.open[side]:
            kinds.setdefault(tuple(sorted(search.shape(array_slice, side))), ([], []))[side].append(
                array_slice
            )
    return [(one[0][0], one[1][0]) for one in kinds.values() if len(one[0]) == len(one[1]) == 1]


def _near(
    search: Search, left: ParameterSlice, right: ParameterSlice, by: str, unknown: bool = False
) -> Link | None:
    """The one layout in which the gradients are near, or, if `unknown`, are not there; None if there are several, or none."""
    distances = [(search.last.distance(one), one) for one in search.layouts(left, right, by)]
    near = [one for distance, one in distances if (unknown if distance is None else distance <= NEAR)]
    return near[0] if len(near) == 1 else None


def by_function(search: Search, ranked: Ranked) -> list[Link]:
    """Pairs that are each other's nearest by far, in a layout that is the nearest by far."""
    by_distance = sorted(ranked, key=lambda one: one[0])
    nearest: dict[tuple[int, ParameterSlice], list[float]] = {}
    for distance, link in by_distance:
        for place in enumerate(pair_of(link)):
            nearest.setdefault(place, []).append(distance)
    links = []
    for distance, link in by_distance:
        if distance > NEAR:
            break
        rivals = [
            one
            for place in enumerate(pair_of(link))
            for values in [nearest[place]]
            for one in (values[1:2] if values[0] == distance else values[:1])  # one is the link itself
        ]
        if search.far(rivals, distance):
            links.append(link)
    return links


def ranked(search: Search) -> Ranked:
    """Every layout of every pair that could be, with its distance; a pair that no layout makes near is there once."""
    found: list[tuple[float, Link]] = []
    for left, right in of_one_size(search):
        coarse = search.last.invariant_distance(left, right)
        if coarse is None:
            continue
        if coarse > NEAR:
            found.append((coarse, Link(left.name, right.name, left.slices, right.slices)))
            continue
        distances = [(search.last.distance(link), link) for link in search.layouts(left, right, "function")]
        found += [(one, link) for one, link in distances if one is not None]
    return found


def of_one_size(search: Search) -> Iterator[Pair]:
    """Open pairs that hold as many numbers."""
    rights: dict[int, list[ParameterSlice]] = {}
    for one in search.open[1]:
        rights.setdefault(search.size(one, 1), []).append(one)
    for left in search.open[0]:
        for right in rights.get(search.size(left, 0), ()):
            yield left, right


def by_module(search: Search) -> list[Link]:
    """Where gradients cannot decide, the names of linked parameters do: of two biases, which one belongs to a weight."""
    pairs = of_linked_names(search)
    return [link for pair in pairs if (link := _near(search, *pair, "module", unknown=True))]


def of_linked_names(search: Search) -> list[Pair]:
    """Open pairs of one kind whose names are otherwise those of linked ones, where that leaves no choice."""
    linked = {(names.parted(one.left)[0], names.parted(one.right)[0]) for one in search.links}
    others: dict[str, list[str]] = {}
    for ours, theirs in linked:
        others.setdefault(ours, []).append(theirs)
    rights: dict[tuple[str, str], list[ParameterSlice]] = {}
    for two in search.open[1]:
        rights.setdefault(names.parted(two.name), []).append(two)
    pairs = [
        (one, two)
        for one in search.open[0]
        for module, kind in [names.parted(one.name)]
        for other in others.get(module, ())
        for two in rights.get((other, kind), ())
    ]
    return without_choice(pairs)


def without_choice(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs neither of whose slices stands in another."""
    firsts, seconds = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    return [(one, two) for one, two in pairs if firsts[one] == seconds[two] == 1]


def ambiguous(ranked: Ranked) -> list[list[Link]]:
    """Pairs that are near and have no rival, in several layouts that are as near; those, nearest first."""
    best: dict[Pair, list[Link]] = {}
    for distance, link in sorted(ranked, key=lambda one: one[0]):
        if distance <= NEAR:
            best.setdefault(pair_of(link), []).append(link)
    without_rival = {*without_choice([*best])}
    return [links for pair, links in best.items() if len(links) > 1 and pair in without_rival]


def by_trial(search: Search, ranked: Ranked, probe: Probe) -> list[Link]:
    """A pair that has no rival, but several layouts that are as near: the one under which all else stays near."""
    for links in ambiguous(ranked):
        trial = frozenset(links), len(search.links), len(search.ambiguous)
        if len(links) > MOST_LAYOUTS or trial in search.in_vain:
            continue
        if link := tried(search, links, probe):
            return [link]
        search.in_vain.add(trial)
    return []


def tried(search: Search, links: Sequence[Link], probe: Probe) -> Link | None:
    """The one of these under which both losses, and all gradients that are linked, are nearest by far."""
    ranked = sorted(((_strain(search, link, probe), link) for link in links), key=lambda one: one[0])
    (best, link), (second, _) = ranked[0], ranked[1]
    return link if best <= NEAR and search.far([second], best) else None


def _strain(search: Search, link: Link, probe: Probe) -> float:
    """The largest distance of losses and of linked gradients if this link is taken."""
    tried = search.look(probe, [link])
    trained = [one for one in (*search.links, link) if one.left in tried.left and one.right in tried.right]
    return max([tried.loss_distance, *(tried.distance(one) or 0.0 for one in trained)])


def by_elimination(search: Search) -> list[Link]:
    """Two slices without a gradient, the only ones of their size; if need be in the layout of others cut from the same array."""
    for left, right in _uninformative_and_alone(search):
        links = list(search.layouts(left, right, "elimination"))
        known = {
            (one.reshape, one.transpose)
            for one in search.links
            if left.name == one.left or right.name == one.right
        }
        alike = [one for one in links if (one.reshape, one.transpose) in known]
        for candidates in (links, alike):
            if len(candidates) == 1:
                return candidates
    return []


def _uninformative_and_alone(search: Search) -> Iterator[Pair]:
    for left, right in without_choice([*of_one_size(search)]):
        if search.last.uninformative(left, 0) and search.last.uninformative(right, 1):
            yield left, right


def buffers(search: Search) -> list[Link]:
    """Buffers of one shape that change by the same amount, where no other buffer does.

    One that is linked already does not move by the first step, as an average of the weights that is begun at the weights.
    """
    linked = [{one.left for one in search.links}, {one.right for one in search.links}]
    moves = search.last.left_buffers, search.last.right_buffers
    ours, theirs = (
        {name: one for name, one in side.items() if one.any() and name not in taken}
        for side, taken in zip(moves, linked, strict=True)
    )
    distances = {
        (one, two): float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max(), 1e-300))
        for one, a in ours.items()
        for two, b in theirs.items()
        if a.shape == b.shape and a.size
    }
    rivals: dict[tuple[int, str], list[float]] = {}
    for pair, distance in distances.items():
        for place in enumerate(pair):
            rivals.setdefault(place, []).append(distance)
    for values in rivals.values():
        values.sort()
    links = []
    for pair, distance in distances.items():
        # Of the two nearest, one is the pair itself, if it is near at all.
        others = [one for place in enumerate(pair) for one in rivals[place][1:2]]
        if distance <= NEAR and search.far(others, distance):
            links.append(Link(*pair, by="function", distance=distance))
    return links


def frozen(search: Search, probe: Probe) -> list[Link]:
    """Buffers that no step changes, where exactly one pair in one layout lets both sides compute the same."""
    links: list[Link] = []
    while True:
        good = [
            one
            for one in itertools.islice(_still_open(search, links), MOST_TRIED)
            if search.same_loss(_strain(search, one, probe), 0.0)
        ]
        chosen = {*without_choice([pair_of(one) for one in good])}
        alone = [one for one in good if pair_of(one) in chosen]
        if not alone:
            return links
        links += alone
        search.links += alone


def _still_open(search: Search, linked: Sequence[Link]) -> Iterator[Link]:
    """Every layout of every possible pair; only of pairs matched by name, where there are any."""
    taken = {name for one in (*linked, *search.links) for name in (one.left, one.right)}
    left, right = ([one for one in side if one not in taken] for side in search.still)
    pairs = names.matched(left, right) or dict.fromkeys(itertools.product(left, right), "function")
    for (one, two), by in pairs.items():
        if search.size(ParameterSlice(one), 0) == search.size(ParameterSlice(two), 1):
            yield from search.layouts(ParameterSlice(one), ParameterSlice(two), by)
