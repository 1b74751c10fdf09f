"""An explanation: a known mistake, and the interventions under which a right implementation would make it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Problem
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.runs.intervention import Intervention

Propose = Callable[[Evidence], Iterator[Intervention]]
"""The interventions that evidence suggests; none where the mistake does not apply."""


@dataclass(frozen=True)
class Explanation:
    """One known mistake.

    Attributes:
        name: a short name, the same in every report.
        description: the mistake, in one sentence.
        propose: each way in which it may have happened.
    """

    name: str
    description: str
    propose: Propose


def in_turn(*proposers: Propose) -> Propose:
    """The proposals of all of them, one after the other."""

    def propose(evidence: Evidence) -> Iterator[Intervention]:
        for one in proposers:
            yield from one(evidence)

    return propose


def formula(propose: Callable[[Problem], Iterator[Intervention]]) -> Propose:
    """Proposals from the problem's formula: none without one, and none from the first altered problem that is not valid."""

    @functools.wraps(propose)
    def from_formula(evidence: Evidence) -> Iterator[Intervention]:
        if evidence.problem is not None:
            with suppress(ProblemError):
                yield from propose(evidence.problem)

    return from_formula
