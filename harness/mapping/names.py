"""Names of parameters in a form that frameworks share: ``net.fc1.weight`` and ``mlp/~/fc1/kernel`` are both ``fc1 w``."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping
from functools import cache

ALIKE: Mapping[str, str] = {
    **dict.fromkeys(("weight", "kernel", "w", "scale", "gamma", "embedding", "embeddings"), "w"),
    **dict.fromkeys(("bias", "b", "offset", "beta"), "b"),
    **dict.fromkeys(("running_mean", "mean", "moving_mean"), "mean"),
    **dict.fromkeys(("running_var", "var", "variance", "moving_variance"), "var"),
}
"""The last part of a name -> the word for it that is shared."""

WORD = re.compile(r"[0-9]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""A number, or a word: ``LayerNorm_0`` has two words and a number."""

PLUS = " + "
"""Between the names of two parameters of which the sum is meant: ``lstm.bias_ih_l0 + lstm.bias_hh_l0``."""

Ends = dict[Hashable, list[str]]
"""What names have in common -> these names."""

NOTHING: Mapping[str, Hashable] = {}


def normalised(name: str) -> str:
    """Lower case, parts separated by one space, the last part replaced by its shared word."""
    parts = _parts(name.lower())
    return " ".join([*parts[:-1], ALIKE.get(parts[-1], parts[-1])])


@cache
def words(name: str) -> tuple[str, ...]:
    """The words and numbers of a name, in lower case, and last the shared word for its kind.

    ``encoder/layers_0/fcOut/kernel`` is ``encoder layer 0 fc out w``: what is counted loses its plural.
    """
    *path, last = _parts(name)
    kind = ALIKE.get(last.lower())
    found = [word.lower() for part in (path if kind else [*path, last]) for word in WORD.findall(part)]
    singular = [
        one.removesuffix("s") if after.isdigit() and len(one) > 3 else one
        for one, after in itertools.pairwise([*found, ""])
    ]
    return (*singular, kind) if kind else tuple(singular)


def matched(
    left: Collection[str],
    right: Collection[str],
    alike: tuple[Mapping[str, Hashable], Mapping[str, Hashable]] = (NOTHING, NOTHING),
) -> dict[tuple[str, str], str]:
    """Pairs whose names leave no choice -> ``name`` or ``normalised name``.

    The longest end that the words of two names share decides, if nobody else shares as long a one: containers that one side
    has and the other has not do not matter, nor does where a word is separated. Of several that share it, the same numbers
    in the names decide, then the same last part. Names that are matched are no longer a choice for others.

    Args:
        left, right: the names of the two sides.
        alike: what two counterparts have in common besides, by name: their size, say.
    """
    same = [name for name in left if name in right and alike[0].get(name) == alike[1].get(name)]
    pairs = {(name, name): "name" for name in same}
    taken = set(same)
    ours, theirs = ([name for name in side if name not in taken] for side in (left, right))
    while found := _mutual(ours, theirs, alike):
        pairs |= dict.fromkeys(found, "normalised name")
        firsts, seconds = {one for one, _ in found}, {two for _, two in found}
        ours = [name for name in ours if name not in firsts]
        theirs = [name for name in theirs if name not in seconds]
    return pairs


def _mutual(
    left: Collection[str],
    right: Collection[str],
    alike: tuple[Mapping[str, Hashable], Mapping[str, Hashable]],
) -> list[tuple[str, str]]:
    """Pairs that are each other's only choice."""
    ends = [_ends_of(side, like) for side, like in zip((left, right), alike, strict=True)]
    there = {name: _best(name, ends[1], alike[0].get(name)) for name in left}
    back = {name: _best(name, ends[0], alike[1].get(name)) for name in right}
    return [(name, other) for name, other in there.items() if other and back[other] == name]


def _ends_of(names: Collection[str], alike: Mapping[str, Hashable]) -> Ends:
    """The names by each end that they have: the end alone, with the name's numbers, and with its last part."""
    ends: Ends = defaultdict(list)
    for name in names:
        for end in _ends(words(name)):
            for one in _keys(name, end, alike.get(name)):
                ends[one].append(name)
    return ends


def _best(name: str, ends: Ends, alike: Hashable) -> str | None:
    """The only name of the other side that shares the longest end; None if there is none, or a choice."""
    for end in _ends(words(name)):
        keys = _keys(name, end, alike)
        if keys[0] in ends:
            return next((ends[one][0] for one in keys if len(ends.get(one, ())) == 1), None)
    return None


def _keys(name: str, end: str, alike: Hashable) -> tuple[Hashable, ...]:
    numbers = tuple(word for word in words(name) if word.isdigit())
    return (end, alike), (end, alike, numbers), (end, alike, numbers, last_part(name))


def _ends(of: tuple[str, ...]) -> Iterator[str]:
    """A name, and its ends that say more than a number and a kind, the longest first, without what separates words."""
    for start in range(max(len(of) - 1, 1)):
        if not start or any(not word.isdigit() for word in of[start:-1]):
            yield "".join(f"#{word}#" if word.isdigit() else word for word in of[start:])


def owner(name: str) -> str:
    """The module that owns a parameter: its name without the last part; of a bare name, the name."""
    place = max(name.rfind("."), name.rfind("/"))
    return name[:place] if place > 0 else name


@cache
def parted(name: str) -> tuple[str, str]:
    """The name without the word for its kind, and the kind: ``lstm.bias_ih_l0`` is ``lstm ih l 0`` and ``b``.

    Where no single word names the kind, the last part is the kind, and the parts before it are the rest; where there is
    nothing but the kind, the whole name.
    """
    *path, last = normalised(name).split()
    found = re.findall(r"[a-z]+|[0-9]+", last)
    kinds = [word for word in found if word in ALIKE]
    if last in ALIKE.values() or len(kinds) != 1:
        return " ".join(path) or name, last
    found.remove(kinds[0])
    return " ".join([*path, *found]) or name, ALIKE[kinds[0]]


def kind(name: str) -> str:
    """The kind of a parameter, by its name: ``w``, ``b``, or a word of its own."""
    return parted(name)[1]


def last_part(name: str) -> str:
    """The last part of a name, in lower case: ``kernel``."""
    return _parts(name)[-1].lower()


def series(name: str) -> tuple[str, tuple[int, ...]]:
    """The name with its numbers left out, and the numbers: ``layer_2/w`` is ``layer#w`` and 2."""
    of = words(name)
    return "".join("#" if word.isdigit() else word for word in of), tuple(
        int(word) for word in of if word.isdigit()
    )


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[./~: ]+", name) if part] or [name]
