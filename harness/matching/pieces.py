"""One array on one side, several on the other, known by names and shapes: layers in one stack, and a fused query, key and value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from lockstep.harness.mapping import names
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.slices import Arrangement, Pair, ParameterSlice

ROLES = {"q": 0, "query": 0, "k": 1, "key": 1, "v": 2, "value": 2}
"""Words for the parts of a fused parameter -> their order in it."""


@dataclass(frozen=True)
class Group:
    """Parameters of one side that are pieces of one array of the other, by their names.

    Attributes:
        name: what they have in common.
        members: in the order of the pieces.
        stacked: whether each is one index of an axis; else they are joined along one that they have.
    """

    name: str
    members: tuple[ParameterSlice, ...]
    stacked: bool


def in_pieces(search: Search, matched: Iterable[Pair], choice: int = 0) -> list[Arrangement]:
    """What names, or sizes that occur once, leave no choice for.

    Args:
        search: whose open parameters are looked at.
        matched: pairs of whole parameters that names match: those are nobody's pieces.
        choice: which of the axes, where an array can be cut along several, or the last that there is.
    """
    pairs = [*matched]
    free = [
        [one for one in search.open[side] if not one.slices and one not in taken]
        for side in (0, 1)
        for taken in [{pair[side] for pair in pairs}]
    ]
    found = [
        one
        for side in (0, 1)
        for whole, group, by in _matched(search, free[side], _groups(search, free[1 - side], 1 - side), side)
        if (one := _arranged(search, whole, group, by, side, choice))
    ]
    return _disjoint(found)


def cut(search: Search, chosen: Iterable[Arrangement]) -> None:
    """Replace these arrays by their parts, where they are open."""
    for one in chosen:
        if one.whole in search.open[one.side]:
            search.replace(one.whole, one.side, one.parts)


def _groups(search: Search, members: Sequence[ParameterSlice], side: int) -> list[Group]:
    """Parameters of one shape whose names differ in one number, or in the word for query, key and value alone."""
    kinds: dict[tuple[bool, int, tuple[str, ...], tuple[int, ...]], dict[int, ParameterSlice]] = {}
    for one in members:
        words = names.words(one.name)
        for at, word in enumerate(words):
            rest, shape = (*words[:at], *words[at + 1 :]), search.shape(one, side)
            if word.isdigit():
                kinds.setdefault((True, at, rest, shape), {})[int(word)] = one
            elif word in ROLES:
                kinds.setdefault((False, at, rest, shape), {})[ROLES[word]] = one
    return [
        Group(_said(rest), tuple(one for _, one in sorted(found.items())), stacked)
        for (stacked, _, rest, _), found in kinds.items()
        if len(found) > 1 and (stacked or len(found) == len({*ROLES.values()}))
    ]


def _said(words: Iterable[str]) -> str:
    """A name of these words, none in the plural."""
    return "/".join(word.removesuffix("s") if len(word) > 3 else word for word in words)


def _matched(
    search: Search, wholes: Sequence[ParameterSlice], groups: Sequence[Group], side: int
) -> Iterator[tuple[ParameterSlice, Group, str]]:
    """Arrays with the groups that are their pieces: the same name but for the number; else the only one of the size."""
    taken: set[ParameterSlice] = set()
    finders = (
        (_same_name, "normalised name"),
        (partial(_alone, _numbered), "normalised name"),
        (partial(_alone, names.kind), "shape"),
        (partial(_alone, lambda name: None), "shape"),
    )
    for find, by in finders:
        left = [one for one in wholes if one not in taken]
        rest = [one for one in groups if taken.isdisjoint(one.members)]
        for whole, group in find(search, left, rest, side):
            if whole not in taken and taken.isdisjoint(group.members):
                taken |= {whole, *group.members}
                yield whole, group, by


def _size(search: Search, group: Group, side: int) -> int:
    """How many numbers the array has of which these are the pieces."""
    return len(group.members) * search.size(group.members[0], 1 - side)


def _same_name(
    search: Search, wholes: Sequence[ParameterSlice], groups: Sequence[Group], side: int
) -> Iterator[tuple[ParameterSlice, Group]]:
    """Arrays with the stacks of their name."""
    named = {_said(names.words(one.name)): one for one in wholes}
    stacks = {one.name: one for one in groups if one.stacked}
    sizes = (
        {name: search.size(one, side) for name, one in named.items()},
        {name: _size(search, one, side) for name, one in stacks.items()},
    )
    for ours, theirs in names.matched(named, stacks, sizes):
        yield named[ours], stacks[theirs]


def _alone(
    of: Callable[[str], Hashable],
    search: Search,
    wholes: Sequence[ParameterSlice],
    groups: Sequence[Group],
    side: int,
) -> Iterator[tuple[ParameterSlice, Group]]:
    """Arrays and groups that are the only ones of their size, among those of whose names something is the same."""
    ours: dict[Hashable, list[ParameterSlice]] = {}
    for whole in wholes:
        ours.setdefault((of(whole.name), search.size(whole, side)), []).append(whole)
    theirs: dict[Hashable, list[Group]] = {}
    for group in groups:
        theirs.setdefault((of(group.name), _size(search, group, side)), []).append(group)
    for place, alike in ours.items():
        if len(alike) == len(theirs.get(place, ())) == 1:
            yield alike[0], theirs[place][0]


def _numbered(name: str) -> Hashable:
    """The numbers in a name, and its kind."""
    return names.series(name)[1], names.kind(name)


def _arranged(
    search: Search, whole: ParameterSlice, group: Group, by: str, side: int, choice: int
) -> Arrangement | None:
    """The array cut along the chosen one of the axes whose parts fit; None if none do."""
    shape, count = search.shape(whole, side), len(group.members)
    cuts = []
    for axis, length in enumerate(shape):
        if length == count if group.stacked else length % count == 0 and length > count:
            parts = whole.cut(shape, axis, [length // count] * count)
            pair = (parts[0], group.members[0]) if side == 0 else (group.members[0], parts[0])
            if next(search.layouts(*pair, flattened=False), None) is not None:
                cuts.append(parts)
    if not cuts:
        return None
    parts = cuts[min(choice, len(cuts) - 1)]
    return Arrangement(whole, side, tuple(parts), group.members, by, len(cuts))


def _disjoint(found: Sequence[Arrangement]) -> list[Arrangement]:
    """Those that share no array with another."""
    uses = Counter(
        place
        for one in found
        for place in [(one.side, one.whole), *((1 - one.side, member) for member in one.members)]
    )
    return [
        one
        for one in found
        if uses[one.side, one.whole] == 1 and all(uses[1 - one.side, member] == 1 for member in one.members)
    ]
