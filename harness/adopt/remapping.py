"""A mapping that may be wrong: one link laid out otherwise, or two with their other sides exchanged."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from lockstep.harness.adopt.alteration import Alteration, remapped
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side, shapes_of
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import Mapping

MOST_TRIED = 400
"""Mappings that are tried: each costs a forward pass."""


def remappings(task: Task, left: Side, right: Side, near: float) -> Iterator[Alteration]:
    """Those under which the first losses agree; training confirms one."""
    assert right.mapping is not None
    if abs(_loss(left, task) - _loss(right, task)) <= near * abs(_loss(left, task)):
        return  # the mapping is right, or its mistakes do not show in the loss
    for one in itertools.islice(_others(right.mapping, left, right), MOST_TRIED):
        assert one.mapping is not None
        losses = [_loss(side, task) for side in (left, remapped(left, right, one.mapping))]
        if abs(losses[0] - losses[1]) <= near * abs(losses[0]):
            yield one


def _loss(side: Side, task: Task) -> float:
    return side.loss(next(side.batches(task)))


def _others(mapping: Mapping, left: Side, right: Side) -> Iterator[Alteration]:
    """Each link in its other layouts, each two links exchanged, and all that could be transposed at once."""
    shapes = left.shapes, shapes_of({**right.start.parameters, **right.start.buffers})
    whole = [one for one in mapping.links if not one.left_slice and not one.right_slice]
    turned: dict[Link, Link] = {}
    for link in whole:
        for other in layouts(shapes[0][link.left], shapes[1][link.right], link):
            turned.setdefault(link, other)
            yield Alteration(
                "transposed",
                f"is given {link.left} transposed by the mapping: {_told(link, other)}",
                mapping=mapping.replaced(link, other),
            )
    for one, two in itertools.combinations(whole, 2):
        if shapes[1][one.right] == shapes[1][two.right] and shapes[0][one.left] == shapes[0][two.left]:
            swapped = mapping.replaced(one, dataclasses.replace(one, right=two.right))
            swapped = swapped.replaced(two, dataclasses.replace(two, right=one.right))
            does = f"is given {one.left} and {two.left} swapped by the mapping: they are {two.right} and {one.right}"
            yield Alteration("swapped", does, mapping=swapped)
    if len(turned) > 1:
        links = tuple(turned.get(one, one) for one in mapping.links)
        does = f"is given {', '.join(one.left for one in turned)} transposed by the mapping"
        yield Alteration("transposed", does, mapping=dataclasses.replace(mapping, links=links))


def _told(link: Link, other: Link) -> str:
    return f"{link.right} has the layout {other.layout or 'of the reference'}"
