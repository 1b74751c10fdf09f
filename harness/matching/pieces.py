"""One array on one side, several on the other, told by names and shapes: layers in one stack, and a fused query, key and value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lockstep.harness.mapping import names
from lockstep.harness.matching.search import Search
from lockstep.harness.matching.slices import ParameterSlice

ROLES = {"q": 0, "query": 0, "k": 1, "key": 1, "v": 2, "value": 2}
"""Words for the parts of a fused parameter -> their order in it."""

Pair = tuple[ParameterSlice, ParameterSlice]


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


@dataclass(frozen=True)
class Arrangement:
    """An array of one side, and the parameters of the other that are its pieces.

    Attributes:
        whole: the array.
        side: its side.
        parts: the array, cut.
        members: of the other side, in the order of the parts.
        by: how they were matched.
        axes: along how many axes it can be cut so.
    """

    whole: ParameterSlice
    side: int
    parts: tuple[ParameterSlice, ...]
    members: tuple[ParameterSlice, ...]
    by: str
    axes: int

    @property
    def pairs(self) -> dict[Pair, str]:
        """Each part with its counterpart, left and right, and how they were matched."""
        sides = (self.parts, self.members) if self.side == 0 else (self.members, self.parts)
        return dict.fromkeys(zip(*sides, strict=True), self.by)


def in_pieces(search: Search, matched: Iterable[Pair], choice: int | None = None) -> list[Arrangement]:
    """What names, or sizes that occur once, leave no choice for.

    Args:
        search: whose open parameters are looked at.
        matched: pairs of whole parameters that names match: those are nobody's pieces.
        choice: which of the axes, where an array can be cut along several, or the last that there is; by default the search's.
    """
    choice = search.choice if choice is None else choice
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
    """Replace these arrays by their parts."""
    for one in chosen:
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
    sizes = {id(one): len(one.members) * search.size(one.members[0], 1 - side) for one in groups}
    stacks = {one.name: one for one in groups if one.stacked}
    named = {_said(names.words(one.name)): one for one in wholes}
    alike = (
        {name: search.size(one, side) for name, one in named.items()},
        {name: sizes[id(one)] for name, one in stacks.items()},
    )
    taken: set[ParameterSlice] = set()
    for ours, theirs in names.matched(named, stacks, alike):
        taken |= {named[ours], *stacks[theirs].members}
        yield named[ours], stacks[theirs], "normalised name"
    left = [one for one in wholes if one not in taken]
    rest = [one for one in groups if taken.isdisjoint(one.members)]
    for of, by in ((_numbered, "normalised name"), (_unnumbered, "shape")):
        places: dict[object, tuple[list[ParameterSlice], list[Group]]] = {}
        for whole in left:
            places.setdefault((of(whole.name), search.size(whole, side)), ([], []))[0].append(whole)
        for group in rest:
            places.setdefault((of(group.name), sizes[id(group)]), ([], []))[1].append(group)
        for ours, theirs in places.values():
            if len(ours) == len(theirs) == 1 and ours[0] not in taken and taken.isdisjoint(theirs[0].members):
                taken |= {ours[0], *theirs[0].members}
                yield ours[0], theirs[0], by
        left = [one for one in left if one not in taken]
        rest = [one for one in rest if taken.isdisjoint(one.members)]


def _numbered(name: str) -> object:
    return names.series(name)[1], names.kind(name)


def _unnumbered(name: str) -> object:
    return None


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
