"""Buffers, and parameters that the other side has frozen, linked by name and shape: compared all the same, and may then differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.mapping import names
from lockstep.harness.mapping.link import Link
from lockstep.harness.matching.search import Search


def by_name(search: Search, linked: Sequence[Link]) -> list[Link]:
    """Links of what is a buffer on one side or on both, whose names, or whose modules and kinds, leave no choice, and which has one shape.

    A matrix under two words for a weight may be transposed, so that its shape says nothing: only its function links it.

    Args:
        search: a finished search.
        linked: every link so far; what is in one is not linked again.
    """
    taken = {one.left for one in linked}, {one.right for one in linked}
    parameters = tuple(
        {one.name: search.shapes[side][one.name] for one in search.open[side]} for side in (0, 1)
    )
    ours, theirs = (
        {
            name: shape
            for name, shape in {**parameters[side], **search.buffers[side]}.items()
            if name not in taken[side]
        }
        for side in (0, 1)
    )
    links = []
    for (left, right), by in {**_of_modules(ours, theirs, linked), **names.matched(ours, theirs)}.items():
        if left in parameters[0] and right in parameters[1]:
            continue
        same_layout = len(ours[left]) < 2 or _last(left) == _last(right)
        if ours[left] == theirs[right] and same_layout:
            links.append(Link(left, right, by=by, distance=_distance(search, left, right)))
    lefts, rights = Counter(one.left for one in links), Counter(one.right for one in links)
    return [one for one in links if lefts[one.left] == rights[one.right] == 1]


def _of_modules(
    ours: Iterable[str], theirs: Iterable[str], linked: Iterable[Link]
) -> Mapping[tuple[str, str], str]:
    """Pairs of one kind whose modules own parameters that are linked with each other, and with no others."""
    modules = {(names.owner(one.left), names.owner(one.right)) for one in linked}
    lefts, rights = Counter(left for left, _ in modules), Counter(right for _, right in modules)
    module = {left: right for left, right in modules if lefts[left] == rights[right] == 1}
    places = {(names.owner(name), names.kind(name)): name for name in theirs}
    pairs = {}
    for name in ours:
        other = places.get((module.get(names.owner(name), ""), names.kind(name)))
        if other is not None:
            pairs[name, other] = "module"
    return pairs


def _last(name: str) -> str:
    return name.removeprefix(names.owner(name))


def _distance(search: Search, left: str, right: str) -> float | None:
    """How differently a step moves the two, relative to the larger move; None where neither moves."""
    ours, theirs = search.last.left_buffers.get(left), search.last.right_buffers.get(right)
    if ours is None or theirs is None:
        return None
    size = max(_magnitude(ours), _magnitude(theirs))
    return _magnitude(ours - theirs) / size if size else None


def _magnitude(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0))
