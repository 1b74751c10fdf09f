"""Which of two sides is wrong: a third backend has the casting vote, the certified reference before all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lockstep import backends as registry
from lockstep.backends.errors import BackendUnavailableError
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Backend
from lockstep.harness.core.ledger import Ledger, Row
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.growth import Course, compare_courses, course
from lockstep.harness.numerics.limits import Limits
from lockstep.harness.runs.continuation import train
from lockstep.harness.runs.lockstep_run import lockstep_run
from lockstep.harness.runs.workers import Chosen, name_of


@dataclass(frozen=True)
class Culprit:
    """Who is wrong.

    Attributes:
        name: the backend; empty where that could not be decided.
        reason: on what evidence, or why not.
    """

    name: str
    reason: str


UNDECIDED = Culprit("", "no third backend was there to say which of them is wrong")


def by_majority(
    problem: Problem, sides: tuple[Backend, Backend], others: Iterable[Backend], row: Row, limits: Limits
) -> Culprit:
    """Who is wrong at one row of the lockstep ledger: whom the third does not agree with there.

    Args:
        problem: what is trained.
        sides: the reference and the other.
        others: backends that may be asked; the first that reaches the row decides.
        row: where the sides part.
        limits: as for the ledger.
    """
    reference, other = sides
    for third in others:
        with suppress(Exception):  # a third that fails is no witness
            votes = [_agrees(problem, one, third, row, limits) for one in (reference, other)]
            if verdict := _counted((reference.name, other.name), votes, third.name):
                return verdict
    return UNDECIDED


def by_free_runs(
    problem: Problem,
    sides: tuple[Backend, Backend],
    others: Iterable[Backend],
    seen: tuple[Course, Course],
    limits: Course,
) -> Culprit:
    """The same for two whole runs, `seen`."""
    for third in others:
        with suppress(Exception):
            theirs = course(train(problem, third.trainer(problem)))
            votes = [compare_courses(one, theirs, limits).verdict is Verdict.AGREE for one in seen]
            if verdict := _counted((sides[0].name, sides[1].name), votes, third.name):
                return verdict
    return UNDECIDED


def available(problem: Problem, others: Iterable[Chosen] | None, sides: Iterable[str]) -> Iterator[Backend]:
    """The backends that can be asked, loaded one by one; by default the certified one, then all that are registered.

    The certified reference goes first: it knows the truth, where the others only have an opinion.
    """
    taken = set(sides)
    for one in (registry.CERTIFIED, *registry.entries()) if others is None else others:
        if name_of(one) in taken:
            continue
        with suppress(BackendUnavailableError):
            backend = registry.load(one) if isinstance(one, str) else one
            if backend.supports(problem) is None:
                yield backend


def _agrees(problem: Problem, side: Backend, third: Backend, row: Row, limits: Limits) -> bool | None:
    """Whether the third agrees with a side at the row; None if it cannot say."""
    ledger: Ledger = lockstep_run(problem, side.trainer(problem), third.trainer(problem), [row.step], limits)
    found = [one.verdict for one in ledger.rows if (one.step, one.name) == (row.step, row.name)]
    if not found or found[0] not in (Verdict.AGREE, Verdict.DIFFER):
        return None
    return found[0] is Verdict.AGREE


def _counted(names: tuple[str, str], votes: Sequence[bool | None], third: str) -> Culprit | None:
    """Whom the third speaks against; None where it cannot part them."""
    match list(votes):
        case [True, False]:
            return Culprit(names[1], f"{third} agrees with {names[0]}")
        case [False, True]:
            return Culprit(names[0], f"{third} agrees with {names[1]}")
        case [False, False]:
            return Culprit("", f"{third} agrees with neither, so which of them is wrong is not known")
    return None
