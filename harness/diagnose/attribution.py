"""Which of two sides is wrong: a third implementation has the casting vote, the certified reference before all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lockstep import backends as registry
from lockstep.backends.errors import BackendUnavailableError
from lockstep.backends.problem import Problem
from lockstep.harness.core.ledger import Row
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import train
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.lockstep_run import StageLimits, lockstep_run
from lockstep.harness.runs.trajectory import Trajectory, compare_trajectories, trajectory
from lockstep.harness.runs.workers import Chosen, name_of


@dataclass(frozen=True)
class Culprit:
    """The side that is wrong.

    Attributes:
        name: who; empty where that could not be decided.
        reason: on what evidence, or why not.
    """

    name: str
    reason: str


UNDECIDED = Culprit("", "no third implementation was there to say which of them is wrong")


def by_majority(
    spec: RunSpec,
    sides: tuple[Implementation, Implementation],
    others: Iterable[Implementation],
    row: Row,
    limits: StageLimits,
) -> Culprit:
    """The culprit at one row of the lockstep ledger: the side that the third does not agree with there.

    Args:
        spec: the run.
        sides: the reference and the other.
        others: who may be asked; the first that reaches the row decides.
        row: where the sides first differ.
        limits: as for the ledger.
    """
    reference, other = sides
    for third in others:
        with suppress(Exception):  # a third that fails is no witness
            votes = [_agrees(spec, one, third, row, limits) for one in (reference, other)]
            if verdict := _counted((reference.name, other.name), votes, third.name):
                return verdict
    return UNDECIDED


def by_free_runs(
    spec: RunSpec,
    sides: tuple[Implementation, Implementation],
    others: Iterable[Implementation],
    runs: tuple[Trajectory, Trajectory],
    limits: Trajectory,
) -> Culprit:
    """The same for two whole runs."""
    for third in others:
        with suppress(Exception):
            theirs = trajectory(train(spec, third.trainer(spec)))
            votes = [compare_trajectories(one, theirs, limits).verdict is Verdict.AGREE for one in runs]
            if verdict := _counted((sides[0].name, sides[1].name), votes, third.name):
                return verdict
    return UNDECIDED


def available(
    problem: Problem, others: Iterable[Chosen] | None, sides: Iterable[str]
) -> Iterator[Implementation]:
    """The backends that can be asked, loaded one by one; by default the certified one, then all that are registered.

    The certified reference goes first: it knows the truth, where the others only have an opinion.
    """
    taken = set(sides)
    for one in (registry.CERTIFIED, *registry.entries()) if others is None else others:
        if name_of(one) in taken:
            continue
        with suppress(BackendUnavailableError):
            loaded: Implementation = registry.load(one) if isinstance(one, str) else one
            if loaded.supports(problem) is None:
                yield loaded


def _agrees(
    spec: RunSpec, side: Implementation, third: Implementation, row: Row, limits: StageLimits
) -> bool | None:
    """Whether the third agrees with a side at the row; None where that cannot be judged."""
    ledger = lockstep_run(spec, side.trainer(spec), third.trainer(spec), [row.step], limits).ledger
    verdicts = [one.verdict for one in ledger.rows if (one.step, one.name) == (row.step, row.name)]
    if not verdicts or verdicts[0] not in (Verdict.AGREE, Verdict.DIFFER):
        return None
    return verdicts[0] is Verdict.AGREE


def _counted(names: tuple[str, str], votes: Sequence[bool | None], third: str) -> Culprit | None:
    """The side that the third votes against; None where its votes decide nothing."""
    match list(votes):
        case [True, False]:
            return Culprit(names[1], f"{third} agrees with {names[0]}")
        case [False, True]:
            return Culprit(names[0], f"{third} agrees with {names[1]}")
        case [False, False]:
            return Culprit("", f"{third} agrees with neither, so which of them is wrong is not known")
    return None
