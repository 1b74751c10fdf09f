"""Parameters of one side that are drawn from one key: their numbers come in one order, whatever their scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.conformance.initialisers.compare import InitialiserOutcome
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.link import Link

FEWEST, MOST = 12, 24
"""How many numbers of a parameter are put in order: 12 independent ones are in a given order once in 5e8, in two builds once in 2e17."""


def with_copies(
    outcomes: Sequence[InitialiserOutcome],
    links: Sequence[Link],
    names: tuple[str, str],
    firsts: Sequence[tuple[Snapshot, Snapshot]],
) -> list[InitialiserOutcome]:
    """The outcomes, with DIFFER for a parameter that repeats another one's draws on one side alone.

    Args:
        outcomes: of each link; one that differs already stays.
        links: which parameter is which.
        names: of the sides.
        firsts: the first two builds of both.
    """
    found = [copies(*(one.parameters for one in builds)) for builds in zip(*firsts, strict=True)]
    return [
        dataclasses.replace(outcome, verdict=Verdict.DIFFER, reason=reason)
        if outcome.verdict is not Verdict.DIFFER and (reason := _one_sided(one, links, found, names))
        else outcome
        for outcome, one in zip(outcomes, links, strict=True)
    ]


def _one_sided(
    one: Link, links: Sequence[Link], found: Sequence[Mapping[str, str]], names: tuple[str, str]
) -> str:
    """The copy that one side makes of a parameter, and the other does not; empty where there is none."""
    for at, (side, other) in enumerate((("left", "right"), ("right", "left"))):
        name = getattr(one, side)
        origin = found[at].get(name)
        if origin is None:
            continue
        counterparts = {getattr(its, other) for its in links if getattr(its, side) == origin}
        theirs = found[1 - at]
        sources = {theirs.get(its, its) for its in counterparts}
        if theirs.get(getattr(one, other), getattr(one, other)) not in sources:
            return (
                f"{names[at]} draws {name} with the same random numbers as {origin}, one key used twice; "
                f"{names[1 - at]} draws each for itself"
            )
    return ""


def copies(first: Arrays, second: Arrays) -> Mapping[str, str]:
    """Each parameter that repeats another one's draws in both builds -> the first one that has them.

    Args:
        first, second: parameters of two builds, by name.
    """
    seen: dict[tuple[bytes, bytes], str] = {}
    found: dict[str, str] = {}
    for name, value in first.items():
        drawn = (value != second[name]).ravel()
        numbers = [one.ravel()[drawn][:MOST].astype(np.float64) for one in (value, second[name])]
        if min(len(np.unique(one)) for one in numbers) < FEWEST:
            continue
        order = (_order(numbers[0]), _order(numbers[1]))
        if order in seen:
            found[name] = seen[order]
        seen.setdefault(order, name)
    return found


def _order(numbers: Array) -> bytes:
    return np.argsort(numbers, kind="stable").tobytes()
