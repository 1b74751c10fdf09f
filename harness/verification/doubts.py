"""What a mapping that was found is not sure of, in the words of a verdict: unconfirmed links, and parameters that one side lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from lockstep.harness.core.ledger import Row
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import FREE, LEFT_OUT, OPTIONAL, Mapping
from lockstep.harness.mapping.names import owner

MOST_NAMED = 3
"""Links and parameters that are named; the rest is counted."""

REMAPPED = frozenset({"transposed", "swapped"})
"""Explanations by a wrong mapping."""

BY_NAME = frozenset({"name", "normalised name"})
"""How links are matched whose names are the same but for what frameworks write differently."""


def doubts(mapping: Mapping, reference: str, name: str) -> tuple[str, ...]:
    """What the mapping between two trainers leaves in doubt; nothing where all is confirmed.

    Args:
        mapping: from the reference's names to the other's.
        reference, name: what reports call the two.
    """
    return (*_unconfirmed(mapping), *_one_sided(mapping, reference, name))


def doubted(diagnosis: Diagnosis, mapping: Mapping) -> Diagnosis:
    """The diagnosis, which says whether the mapping or the port is wrong where a link is not confirmed."""
    said = _favoured(diagnosis, mapping.unconfirmed)
    if not said or diagnosis.verdict is not Verdict.DIFFER:
        return diagnosis
    return dataclasses.replace(diagnosis, sentence=f"{diagnosis.sentence}; {said}")


def _unconfirmed(mapping: Mapping) -> Iterator[str]:
    if links := mapping.unconfirmed:
        named = [
            f"{one.left} to {one.right} (by {one.by}, gradients off by {one.distance:.2g} of themselves)"
            for one in links[:MOST_NAMED]
        ]
        yield f"{_count(len(links), 'link')} unconfirmed: {_listed(named, len(links))}"


def _one_sided(mapping: Mapping, reference: str, name: str) -> Iterator[str]:
    """What one side trains and the other does not have, or has tied."""
    sides = {"left": reference, "right": name}
    found = [
        f"{parameter} of {sides[side]}: {reason.removesuffix(f', {FREE}')}"
        for place, reason in mapping.free.items()
        if reason not in (OPTIONAL, LEFT_OUT)
        for side, _, parameter in [place.partition(":")]
    ]
    if found:
        text = f"{_count(len(found), 'parameter')} not compared: {_listed(found[:MOST_NAMED], len(found))}"
        yield text.replace("the left side", reference).replace("the right side", name)


def _favoured(diagnosis: Diagnosis, links: tuple[Link, ...]) -> str:
    """Which is wrong, the mapping or the port, as far as the evidence goes; empty where no link is in doubt."""
    if not links:
        return ""
    either = f"{_count(len(links), 'link')} unconfirmed, so either the mapping or the port is wrong"
    if diagnosis.explanation and diagnosis.explanation.name in REMAPPED:
        return f"{either}; the evidence is against the mapping: under another one the difference vanishes"
    if agreeing := next((row for row in _before(diagnosis) if row.name in ("forward/output", "loss")), None):
        shown = "outputs" if agreeing.name == "forward/output" else "losses"
        return f"{either}; the evidence is against the port: through the mapping the {shown} of step {agreeing.step} agree"
    first = diagnosis.first
    if first and first.name.startswith("forward/") and first.name != "forward/output":
        computed = {row.name.partition("/")[2] for row in (*_before(diagnosis), first)}
        if not any(owner(one.left) in computed for one in links):
            return f"{either}; the evidence is against the port: it differs before any of them is used"
    if all(one.by in BY_NAME for one in links):
        return f"{either}; the evidence is against the port: the names leave no choice"
    names = _listed([f"{one.left} to {one.right}" for one in links[:MOST_NAMED]], len(links))
    return (
        f"{either}; the evidence is against neither: give mapping= with what you know to be right of {names}"
    )


def _before(diagnosis: Diagnosis) -> list[Row]:
    """The stages that agree before the first that differs."""
    rows = list(diagnosis.ledger.rows)
    end = rows.index(diagnosis.first) if diagnosis.first in rows else len(rows)
    return [row for row in rows[:end] if row.verdict is Verdict.AGREE]


def _listed(named: list[str], count: int) -> str:
    return ", ".join(named) + (f" and {count - len(named)} more" if count > len(named) else "")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
