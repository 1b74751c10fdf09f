"""Names of parameters in a form that frameworks share: ``net.fc1.weight`` and ``mlp/~/fc1/kernel`` are both ``fc1 w``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

ALIKE: Mapping[str, str] = {
    **dict.fromkeys(("weight", "kernel", "w", "scale", "gamma", "embedding", "embeddings"), "w"),
    **dict.fromkeys(("bias", "b", "offset", "beta"), "b"),
    **dict.fromkeys(("running_mean", "mean", "moving_mean"), "mean"),
    **dict.fromkeys(("running_var", "var", "variance", "moving_variance"), "var"),
}
"""The last part of a name -> the word for it that is shared."""


def normalised(name: str) -> str:
    """Lower case, parts separated by one space, the last part replaced by its shared word."""
    parts = [part for part in re.split(r"[./~ ]+", name.lower()) if part]
    return " ".join([*parts[:-1], ALIKE.get(parts[-1], parts[-1])])


def matched(left: Collection[str], right: Collection[str]) -> dict[tuple[str, str], str]:
    """Pairs whose names leave no choice -> ``name`` or ``normalised name``.

    The longest end of the normalised names that two share decides, if nobody else shares as long a one: containers that
    one side has and the other has not do not matter.
    """
    pairs = {(name, name): "name" for name in left if name in right}
    ours = {name: normalised(name).split() for name in left if (name, name) not in pairs}
    theirs = {name: normalised(name).split() for name in right if (name, name) not in pairs}
    shared = {(one, two): _end(a, b) for one, a in ours.items() for two, b in theirs.items()}
    for (one, two), length in shared.items():
        rivals = [
            other
            for pair, other in shared.items()
            if pair != (one, two) and (pair[0] == one or pair[1] == two)
        ]
        if length >= 2 and all(other < length for other in rivals):
            pairs[one, two] = "normalised name"
    return pairs


def owner(name: str) -> str:
    """The module that owns a parameter: its name without the last part; of a bare name, the name."""
    place = max(name.rfind("."), name.rfind("/"))
    return name[:place] if place > 0 else name


def parted(name: str) -> tuple[str, str]:
    """The name without the word for its kind, and the kind: ``lstm.bias_ih_l0`` is ``lstm ih l 0`` and ``b``.

    Where no single word names the kind, the last part is the kind, and the parts before it are the rest; where there is
    nothing but the kind, the whole name.
    """
    *path, last = normalised(name).split()
    words = re.findall(r"[a-z]+|[0-9]+", last)
    kinds = [word for word in words if word in ALIKE]
    if last in ALIKE.values() or len(kinds) != 1:
        return " ".join(path) or name, last
    words.remove(kinds[0])
    return " ".join([*path, *words]) or name, ALIKE[kinds[0]]


def kind(name: str) -> str:
    """The kind of a parameter, by its name: ``w``, ``b``, or a word of its own."""
    return parted(name)[1]


def _end(left: list[str], right: list[str]) -> int:
    """How many parts at the end of two names are the same."""
    length = 0
    while length < min(len(left), len(right)) and left[-1 - length] == right[-1 - length]:
        length += 1
    return length
