"""The explanation by a parameter that one side splits in two: each gets the whole gradient, so that their sum moves twice as far."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lockstep.harness.adopt.implementation import AdoptedCode
from lockstep.harness.adopt.summed import sums_of
from lockstep.harness.explanations.changes import some_gradients, times, updates_times
from lockstep.harness.explanations.evidence import Evidence
from lockstep.harness.explanations.explanation import Explanation
from lockstep.harness.runs.intervention import Intervention


def sum_explanations(reference: AdoptedCode, other: AdoptedCode) -> tuple[Explanation, ...]:
    """The explanation by the sums of one of the two; none where neither has any, or both."""
    sums = [sums_of(one.side.trainer) for one in (reference, other)]
    if bool(sums[0]) is bool(sums[1]):
        return ()
    splits_other = bool(sums[1])
    split = other if splits_other else reference
    joint = _canonical(other, sums[1]) if splits_other else frozenset(sums[0])

    def propose(evidence: Evidence) -> Iterator[Intervention]:
        suspect_splits = splits_other is not evidence.swapped
        named = " and ".join(sums[splits_other])
        description = (
            f"splits a parameter in two, {named}: each gets the whole gradient, so their sum moves twice as far each step"
            if suspect_splits
            else f"has one parameter where {split.name} has two, {named}: it moves half as far each step as their sum"
        )
        return _scaled(description, joint, 2.0 if suspect_splits else 0.5)

    return (Explanation("split parameter", "splits a parameter in two, or does not", propose),)


def _canonical(other: AdoptedCode, sums: Collection[str]) -> frozenset[str]:
    """The reference's parameters that are linked to a sum."""
    links = () if other.side.mapping is None else other.side.mapping.links
    return frozenset(one.left for one in links if one.right in sums)


def _scaled(description: str, names: Collection[str], factor: float) -> Iterator[Intervention]:
    """The gradients, or the updates where the optimizer divides by their size, of these parameters are so many times as large."""
    yield Intervention(description, on_gradients=some_gradients(dict.fromkeys(names, times(factor))))
    yield Intervention(description, on_update=updates_times(dict.fromkeys(names, factor)))
