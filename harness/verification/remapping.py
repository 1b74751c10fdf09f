"""Explanations by a wrong mapping: one link has another layout, or two links have their right sides exchanged."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from lockstep.backends.problem import Batch
from lockstep.harness.adopt.implementation import AdoptedCode
from lockstep.harness.adopt.side import Side, held, shapes_of, sides_of
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.explanation import (
    Explanation,
)
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.runs.intervention import Intervention

MOST_TRIED = 400
"""Mappings that are tried: each costs a forward pass."""

ALIKE = {"float64": 1e-9, "float32": 1e-4}
"""The relative distance of the first losses under a mapping that is tried; training confirms it."""


def mapping_explanations(reference: AdoptedCode, suspect: AdoptedCode) -> tuple[Explanation, ...]:
    """The explanations by a wrong mapping between these two; none where they have the same names."""
    mapping = suspect.side.mapping
    if mapping is None:
        return ()
    return (
        Explanation(
            "transposed",
            "is given a parameter transposed by the mapping",
            lambda evidence: _proposed(reference, suspect, evidence, _transposed),
        ),
        Explanation(
            "swapped",
            "is given two parameters exchanged by the mapping",
            lambda evidence: _proposed(reference, suspect, evidence, _swapped),
        ),
    )


def _proposed(
    reference: AdoptedCode,
    suspect: AdoptedCode,
    evidence: Evidence,
    others: Callable[[Mapping, Side, Side], Iterator[tuple[str, Mapping]]],
) -> Iterator[Intervention]:
    """The suspect under other mappings, where the first losses differ; else none: the mapping is right, or no loss shows it."""
    mapping = suspect.side.mapping
    assert mapping is not None
    batch, near = next(iter(evidence.spec.batches())), ALIKE[evidence.spec.dtype]
    if not evidence.swapped and _suspicious(reference, suspect, batch, near):
        yield from _agreeing(reference, suspect, batch, near, others(mapping, reference.side, suspect.side))


def _suspicious(reference: AdoptedCode, suspect: AdoptedCode, batch: Batch, near: float) -> bool:
    """Whether the first losses differ; else the mapping is right, or its mistakes do not show in the loss."""
    ours, theirs = (one.side.loss(one.side.masked(0, batch)) for one in (reference, suspect))
    return abs(ours - theirs) > near * abs(ours)


def _agreeing(
    reference: AdoptedCode,
    suspect: AdoptedCode,
    batch: Batch,
    near: float,
    mappings: Iterator[tuple[str, Mapping]],
) -> Iterator[Intervention]:
    """The mappings under which the first losses agree; training confirms one."""
    wanted = reference.side.loss(reference.side.masked(0, batch))
    sides = reference.side, suspect.side
    for description, mapping in itertools.islice(mappings, MOST_TRIED):
        start = sides_of([one.name for one in sides], [one.trainer for one in sides], (mapping,))[1]
        other = suspect.remapped(mapping, start)
        if abs(wanted - other.side.loss(other.side.masked(0, batch))) <= near * abs(wanted):
            yield Intervention(description, suspect=other)


def _transposed(mapping: Mapping, left: Side, right: Side) -> Iterator[tuple[str, Mapping]]:
    shapes = left.shapes, shapes_of(held(right.start))
    transposed: dict[Link, Link] = {}
    for link in _whole(mapping):
        for other in layouts(shapes[0][link.left], shapes[1][link.right], link):
            transposed.setdefault(link, other)
            layout = f"{link.right} has the layout {other.layout or 'of the reference'}"
            yield (
                f"is given {link.left} transposed by the mapping: {layout}",
                mapping.replaced(link, other),
            )
    if len(transposed) > 1:
        links = tuple(transposed.get(one, one) for one in mapping.links)
        names = ", ".join(one.left for one in transposed)
        yield f"is given {names} transposed by the mapping", dataclasses.replace(mapping, links=links)


def _swapped(mapping: Mapping, left: Side, right: Side) -> Iterator[tuple[str, Mapping]]:
    shapes = left.shapes, shapes_of(held(right.start))
    for one, two in itertools.combinations(_whole(mapping), 2):
        if shapes[1][one.right] == shapes[1][two.right] and shapes[0][one.left] == shapes[0][two.left]:
            exchanged = mapping.replaced(one, dataclasses.replace(one, right=two.right))
            exchanged = exchanged.replaced(two, dataclasses.replace(two, right=one.right))
            yield (
                f"is given {one.left} and {two.left} swapped by the mapping: they are {two.right} and {one.right}",
                exchanged,
            )


def _whole(mapping: Mapping) -> list[Link]:
    return [one for one in mapping.links if not one.left_slice and not one.right_slice]
