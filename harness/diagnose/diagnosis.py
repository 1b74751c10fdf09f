"""Diagnosis: where two backends first part, which of them is wrong, and what it is believed to do.

Three kinds of evidence: free runs (each trains alone), the lockstep run (every step from equal state, stage by stage),
and each backend against itself (its fused run, and what it keeps from step to step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from lockstep import backends as registry
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Backend, Trainer
from lockstep.harness.core.compare import Run
from lockstep.harness.core.ledger import INPUTS, Ledger, Row
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose import injection as exchange
from lockstep.harness.diagnose.attribution import Culprit, available, by_free_runs, by_majority
from lockstep.harness.diagnose.explain import Confirmed, explain
from lockstep.harness.diagnose.wording import blame, place_of, values_of
from lockstep.harness.numerics.growth import (
    Course,
    Train,
    compare_courses,
    course,
    rounding_limits,
)
from lockstep.harness.numerics.limits import UNITS, Limits
from lockstep.harness.numerics.measured import measured_growth, measured_limits
from lockstep.harness.problems import find
from lockstep.harness.runs.continuation import carried_state, train
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.lockstep_run import chosen_steps, lockstep_run
from lockstep.harness.runs.workers import Chosen, name_of, run_one


class Kind(StrEnum):
    """What kind of difference it is."""

    NONE = "none"
    """Nothing parts."""
    LOCAL = "local"
    """A stage of a single step is computed otherwise from the same inputs."""
    CARRIED = "carried state"
    """Every step is right by itself; what is carried from step to step, or the whole run, is not."""
    GROWTH = "explained by growth"
    """Only the free runs part, and no further than rounding grows on this problem."""
    UNJUDGED = "not judged"
    """It could not be found out."""


EMPTY = Ledger(())

READ = frozenset({"initial", "buffers", "accumulator", "optimizer", "average", "count", "step"})
"""Kinds of stage that differ, too, where nothing is computed otherwise: `read` leaves it out, or a trainer hides it."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found about two backends on one problem.

    Attributes:
        problem: what both trained.
        reference, backend: their names.
        verdict: as everywhere; AGREE also where growth explains the distance.
        kind: what kind of difference.
        sentence: the first divergence, in one sentence.
        first: the row that it is about.
        culprit: which side is wrong.
        explanation: what the culprit does, confirmed by training; None where no known mistake explains it.
        ledger: the lockstep run.
        free: the whole runs against one another.
        carried: each backend against itself, by name.
        exchanged: the stages of the step where they part, each computed by the backend from the reference's.
    """

    problem: RunSpec
    reference: str
    backend: str
    verdict: Verdict
    kind: Kind
    sentence: str
    first: Row | None = None
    culprit: Culprit | None = None
    explanation: Confirmed | None = None
    ledger: Ledger = EMPTY
    free: Ledger = EMPTY
    carried: Mapping[str, Ledger] = field(default_factory=dict)
    exchanged: Ledger = EMPTY


def diagnose(
    problem: Problem | str | Path,
    backend: Chosen,
    reference: Chosen = "numpy",
    *,
    others: Iterable[Chosen] | None = None,
    dtype: str | None = None,
    epochs: int | None = None,
    limits: Callable[[Problem, Trainer], Limits] = measured_limits,
    growth: Callable[[Problem, Train], Course] = measured_growth,
) -> Diagnosis:
    """Where `backend` first parts from `reference`, which of them is wrong, and what it does.

    Args:
        problem: a Problem, a name of the catalogue, or the path of a problem file.
        backend, reference: registered names or backends.
        others: who may be asked which side is wrong; by default the certified reference, then every other backend.
        dtype, epochs: instead of the problem's own.
        limits: (problem, a trainer of the reference) -> how far the stages of one step may be apart.
        growth: (problem, how the reference trains) -> how far apart rounding can bring two whole runs.

    Raises:
        LockstepError: a name is not known, or the problem is not valid.
    """
    found = problem if isinstance(problem, Problem) else find(problem)
    prepared = found.replace(dtype=dtype or found.dtype, epochs=found.epochs if epochs is None else epochs)
    for one in (reference, backend):
        if isinstance(one, str):
            registry.entry(one)
    runs = [run_one(one, prepared) for one in (reference, backend)]
    names = (name_of(reference), name_of(backend))
    for run in runs:
        if run.trace is None:
            told = f"{run.backend} did not train: {run.reason}{f'; {run.fix}' if run.fix else ''}"
            return Diagnosis(prepared, *names, run.verdict, Kind.UNJUDGED, told)
    loaded = [registry.load(one) if isinstance(one, str) else one for one in (reference, backend)]
    try:
        sides, seen = (loaded[0], loaded[1]), (_course(runs[0]), _course(runs[1]))
        trainer = sides[0].trainer
        room = growth(prepared, lambda near: train(near, trainer(near)))
        return _Case(prepared, sides, seen, others, limits(prepared, trainer(prepared)), room).judged()
    except Exception as error:  # what a backend raises is a finding about it, not the harness' end
        told = f"{' or '.join(names)} failed beside its run: {describe(error)}"
        return Diagnosis(prepared, *names, Verdict.ERROR, Kind.UNJUDGED, told)


def _course(run: Run) -> Course:
    assert run.trace is not None
    return course(run.trace)


class _Case:
    """Two backends that trained, and the evidence about them."""

    def __init__(
        self,
        problem: Problem,
        sides: tuple[Backend, Backend],
        seen: tuple[Course, Course],
        others: Iterable[Chosen] | None,
        limits: Limits,
        room: Course,
    ) -> None:
        self.problem, self.sides, self.seen = problem, sides, seen
        self.names = (sides[0].name, sides[1].name)
        self.others = list(available(problem, others, self.names)) if others is not None else None
        self.limits, self.room = limits, room
        self.free = compare_courses(*seen, self.room, "free/")
        self.ledger = self._lockstep()
        self.carried = {
            one.name: carried_state(problem, lambda one=one: one.trainer(problem), self.room, self.suspicious)  # type: ignore[misc]
            for one in sides
        }

    def judged(self) -> Diagnosis:
        """From the most to the least certain: a stage of one step, one backend against itself, the whole runs."""
        row = self.ledger.first
        if row and not (row.kind in READ and self._lost_between_steps()):
            return self._local(row)
        for name, ledger in self.carried.items():
            if ledger.first:
                return self._carried(name, ledger.first, "" if row else "every step by itself agrees, ")
        if row := self.free.first:
            return self._unexplained(row)
        return self._without_difference()

    def _lost_between_steps(self) -> bool:
        """Whether a backend does not go on where it was read: then what was read of it may be what is wrong."""
        return any(row.kind == "continued" for one in self.carried.values() for row in one.blamed)

    def _lockstep(self) -> Ledger:
        steps = chosen_steps(self.problem, also=self.suspicious)
        reference, other = (one.trainer(self.problem) for one in self.sides)
        return lockstep_run(self.problem, reference, other, steps, self.limits)

    @property
    def suspicious(self) -> tuple[int, ...]:
        """The step whose loss first parts, and the one before it, whose update may be why; none if no loss does."""
        row = next(iter(self.free.rows))
        if row.verdict is not Verdict.DIFFER or not 0 <= row.step < self.problem.steps:
            return ()
        return (max(row.step - 1, 0), row.step)

    def _local(self, row: Row) -> Diagnosis:
        culprit = by_majority(self.problem, self.sides, self._others(), row, self.limits)
        kind = Kind.CARRIED if row.kind == "state" else Kind.LOCAL
        inputs = "its inputs agree; " if INPUTS.get(row.kind) else ""
        sentence = (
            f"{self.names[1]} first parts from {self.names[0]} at step {row.step}, in {place_of(row)}: "
            f"{values_of(row, self.names)}; {inputs}{blame(culprit)}"
        )
        exchanged = self._exchange(row)
        if told := exchange.told(row, exchanged, self.ledger, self.names[0]):
            sentence += f"; {told}"
        return self._told(Verdict.DIFFER, kind, sentence, row, culprit, exchanged)

    def _exchange(self, row: Row) -> Ledger:
        if row.kind not in exchange.EXCHANGED:
            return EMPTY
        reference, other = (one.trainer(self.problem) for one in self.sides)
        return exchange.exchange(self.problem, reference, other, row.step, self.limits)

    def _carried(self, name: str, row: Row, steps: str) -> Diagnosis:
        fused = row.kind == "fit"
        how = "its whole run is not what its steps make" if fused else "it does not go on where it was read"
        sides = ("step by step", "by fit") if fused else ("uninterrupted", "continued")
        sentence = (
            f"{name} parts from itself at step {row.step}, in {place_of(row)}: {values_of(row, sides)}; "
            f"{steps}{how}"
        )
        return self._told(Verdict.DIFFER, Kind.CARRIED, sentence, row, Culprit(name, how))

    def _unexplained(self, row: Row) -> Diagnosis:
        culprit = by_free_runs(self.problem, self.sides, self._others(), self.seen, self.room)
        sentence = (
            f"the free runs part at step {row.step}, in {place_of(row)}: {values_of(row, self.names)}, further than "
            f"rounding grows; every step that was compared by itself agrees; {blame(culprit)}"
        )
        return self._told(Verdict.DIFFER, Kind.CARRIED, sentence, row, culprit)

    def _without_difference(self) -> Diagnosis:
        agreed = f"every stage of {len(self.ledger.steps)} steps agrees on equal inputs"
        if row := _first((*self.ledger.rows, *self.free.rows), Verdict.ERROR):
            told = f"it cannot be judged from step {row.step} on, in {place_of(row)}: {row.reason}; what came before agrees"
            return self._told(Verdict.ERROR, Kind.UNJUDGED, told, row)
        if row := _first(self._above_noise(), Verdict.INCONCLUSIVE):
            told = f"{agreed}, but the free runs cannot be judged in {place_of(row)}: {row.reason}"
            return self._told(Verdict.INCONCLUSIVE, Kind.GROWTH, told, row)
        narrow = rounding_limits(self.problem.dtype, self.seen[0])
        if row := compare_courses(*self.seen, narrow, "free/").first:
            told = f"{agreed}; the free runs part at step {row.step}, in {place_of(row)}, no further than rounding grows"
            return self._told(self.ledger.verdict, Kind.GROWTH, told, row)
        return self._told(
            self.ledger.verdict, Kind.NONE, f"nothing parts: {agreed}, and so do the whole runs"
        )

    def _above_noise(self) -> list[Row]:
        """The rows of the free runs but those of leaves that hold nothing but rounding: a bias before a batch norm."""
        largest = max(row.scale for row in self.free.rows)
        noise = UNITS * float(np.finfo(self.problem.dtype).eps) * largest
        return [row for row in self.free.rows if row.limit > noise or row.scale > noise]

    def _told(
        self,
        verdict: Verdict,
        kind: Kind,
        sentence: str,
        row: Row | None = None,
        culprit: Culprit | None = None,
        exchanged: Ledger = EMPTY,
    ) -> Diagnosis:
        explanation = self._explained(row, culprit) if verdict is Verdict.DIFFER and row else None
        if explanation:
            sentence += f"; {self._suspect(culprit).name} {explanation.does}"
        return Diagnosis(
            self.problem,
            *self.names,
            verdict,
            kind,
            sentence,
            row,
            culprit,
            explanation,
            self.ledger,
            self.free,
            self.carried,
            exchanged,
        )

    def _explained(self, row: Row, culprit: Culprit | None) -> Confirmed | None:
        suspect = self._suspect(culprit)
        witness = self.sides[0] if suspect is self.sides[1] else self.sides[1]
        return explain(self.problem, witness, suspect, row.step)

    def _suspect(self, culprit: Culprit | None) -> Backend:
        """The reference only where it was found to be wrong."""
        return self.sides[0] if culprit and culprit.name == self.names[0] else self.sides[1]

    def _others(self) -> Iterable[Backend]:
        return available(self.problem, None, self.names) if self.others is None else self.others


def _first(rows: Iterable[Row], verdict: Verdict) -> Row | None:
    return next((row for row in rows if row.verdict is verdict), None)
