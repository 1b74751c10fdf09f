"""Which initial array of one side is which of the other, and in which layout, without training either."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.side import held, shapes_of
from lockstep.harness.conformance.initialisers.structure import copied_axes
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import Mapping, Shapes, parts
from lockstep.harness.mapping.names import matched

MOST_ORDERS = 24
"""The most layouts of one pair that are tried: all orders of four axes."""


@dataclass(frozen=True)
class Linked:
    """The links between two sides.

    Attributes:
        pairs: each pair of arrays, or slices of them, in every layout that it may have.
        misfits: pairs that have no layout in common.
        unlinked: parameters without a counterpart, ``left:name`` or ``right:name`` -> names that it may be.
        left_out: buffers without a counterpart, as ``left:name``.
    """

    pairs: tuple[tuple[Link, ...], ...]
    misfits: tuple[Link, ...]
    unlinked: AnyMapping[str, tuple[str, ...]]
    left_out: tuple[str, ...]


def link(mapping: Any, left: Snapshot, right: Snapshot) -> Linked:
    """The links that `mapping` gives; of None, by names that leave no choice, then by shapes that only one pair has.

    Raises:
        MappingError: the mapping does not fit; arrays of different sizes are no error.
    """
    shapes = shapes_of(held(left)), shapes_of(held(right))
    if mapping is None:
        fitting, misfits = _without_mapping(left, right)
    else:
        given = Mapping.of(mapping)
        misfits = tuple(one for one in given.links if _misfit(one, *shapes))
        _check(given, misfits, left, right)
        fitting = tuple((one,) for one in given.links if one not in misfits)
    linked = [*(one[0] for one in fitting), *misfits]
    return Linked(fitting, misfits, _unlinked(linked, left, right), _left_out(linked, left, right))


def chosen(candidates: tuple[Link, ...], builds: Sequence[tuple[Snapshot, Snapshot]]) -> Link:
    """The layout in which both sides have the most in common of what no seed changes; any does where all is drawn.

    Args:
        candidates: one pair in several layouts.
        builds: two builds or more of both sides.
    """

    def differences(one: Link) -> tuple[int, bool, float]:
        pairs = [parts(one, held(left)[one.left], held(right)[one.right]) for left, right in builds]
        fixed = [np.all([values == its[0] for values in its], axis=0) for its in zip(*pairs, strict=True)]
        ours, theirs = (values[fixed[0] & fixed[1]].astype(np.float64) for values in pairs[0])
        copied = [copied_axes(values) for values in pairs[0]]
        return int((fixed[0] != fixed[1]).sum()), copied[0] != copied[1], float(np.abs(ours - theirs).sum())

    return candidates[0] if len(candidates) == 1 else min(candidates, key=differences)


def _without_mapping(
    left: Snapshot, right: Snapshot
) -> tuple[tuple[tuple[Link, ...], ...], tuple[Link, ...]]:
    """The pairs that names leave no choice of, and then shapes; those of names that do not fit, and shapes do not pair otherwise."""
    shapes = shapes_of(held(left)), shapes_of(held(right))
    named = {pair: tuple(_in_layouts(*pair, *shapes)) for pair in matched(*shapes)}
    fitting = {pair: one for pair, one in named.items() if one}
    # Names may mislead: one that does not fit waits for the shapes.
    fitting |= {pair: tuple(_in_layouts(*pair, *shapes)) for pair in _by_shape(left, right, fitting)}
    taken = {name for pair in fitting for name in (("left", pair[0]), ("right", pair[1]))}
    misfits = tuple(
        Link(*pair) for pair in named if taken.isdisjoint((("left", pair[0]), ("right", pair[1])))
    )
    return tuple(fitting.values()), misfits


def _by_shape(left: Snapshot, right: Snapshot, taken: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of parameters, not `taken`, that alone have their lengths of axes, in whatever order."""
    named = [set(one) for one in zip(*taken, strict=True)] or [set[str](), set[str]()]
    groups: list[dict[tuple[int, ...], list[str]]] = [{}, {}]
    for group, snapshot, known in zip(groups, (left, right), named, strict=True):
        for name, value in snapshot.parameters.items():
            if name not in known:
                group.setdefault(tuple(sorted(value.shape)), []).append(name)
    return [
        (ours[0], theirs[0])
        for shape, ours in groups[0].items()
        for theirs in [groups[1].get(shape, [])]
        if len(ours) == len(theirs) == 1
    ]


def _in_layouts(left: str, right: str, left_shapes: Shapes, right_shapes: Shapes) -> Iterable[Link]:
    """The layouts in which two arrays hold as many numbers along the same axes, as they are first."""
    shapes, plain = (left_shapes[left], right_shapes[right]), Link(left, right)
    same = [plain] if shapes[0] == shapes[1] else []
    return itertools.islice(itertools.chain(same, layouts(*shapes, plain)), MOST_ORDERS)


def _misfit(one: Link, left: Shapes, right: Shapes) -> bool:
    """Whether whole arrays of different sizes are linked."""
    if one.left not in left or one.right not in right or one.left_slice or one.right_slice:
        return False
    return math.prod(left[one.left]) != math.prod(right[one.right])


def _check(mapping: Mapping, misfits: tuple[Link, ...], left: Snapshot, right: Snapshot) -> None:
    """Raise a MappingError unless all but the misfits fit."""
    rest = Mapping(tuple(one for one in mapping.links if one not in misfits), mapping.left_over)
    optional = [f"left:{one}" for one in (*left.buffers, *(one.left for one in misfits))]
    optional += [f"right:{one}" for one in (*right.buffers, *(one.right for one in misfits))]
    rest.check(shapes_of(held(left)), shapes_of(held(right)), optional)


def _unlinked(links: Iterable[Link], left: Snapshot, right: Snapshot) -> dict[str, tuple[str, ...]]:
    """The parameters that no link has, with those of the other side that have as many numbers."""
    linked = _linked(links)
    ours, theirs = (
        {
            f"{side}:{name}": value.size
            for name, value in one.parameters.items()
            if f"{side}:{name}" not in linked
        }
        for side, one in (("left", left), ("right", right))
    )
    return {
        name: tuple(one.partition(":")[2] for one, its in others.items() if its == size)
        for mine, others in ((ours, theirs), (theirs, ours))
        for name, size in mine.items()
    }


def _left_out(links: Iterable[Link], left: Snapshot, right: Snapshot) -> tuple[str, ...]:
    """The buffers that no link has."""
    names = [f"{side}:{name}" for side, one in (("left", left), ("right", right)) for name in one.buffers]
    linked = _linked(links)
    return tuple(name for name in names if name not in linked)


def _linked(links: Iterable[Link]) -> set[str]:
    return {f"{side}:{getattr(one, side)}" for one in links for side in ("left", "right")}
