"""Diagnosis: where two implementations first differ, which of them is wrong, and which mistake explains it.

Three kinds of evidence: free runs (each trains alone), the lockstep run (every step from equal state, stage by stage),
and each implementation against itself (its fused run, and the state that it carries from step to step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from lockstep import backends as registry
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Trainer
from lockstep.harness.core.compare import Run
from lockstep.harness.core.ledger import INPUTS, Ledger, Row
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose import injection
from lockstep.harness.diagnose.attribution import Culprit, available, by_free_runs, by_majority
from lockstep.harness.diagnose.explain import Confirmed, explain
from lockstep.harness.diagnose.noise import undecided
from lockstep.harness.diagnose.wording import blame, left_over, place_of, values_of
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.explanation import (
    Explanation,
)
from lockstep.harness.numerics import limits as rounding
from lockstep.harness.numerics.limits import UNITS
from lockstep.harness.problems import find
from lockstep.harness.runs.continuation import carried_state
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.lockstep_run import UNSHOWN, LockstepRun, StageLimits, lockstep_run, steps_of
from lockstep.harness.runs.trajectory import Trajectory, compare_trajectories, trajectory
from lockstep.harness.runs.workers import Chosen, name_of, run_one


class Kind(StrEnum):
    """The kind of a difference."""

    NONE = "none"
    """Nothing differs."""
    LOCAL = "local"
    """A stage of a single step is computed differently from the same inputs."""
    CARRIED = "carried state"
    """Every step is right by itself; the state that is carried from step to step, or the whole run, is not."""
    GROWTH = "explained by growth"
    """Only the free runs differ, and by no more than rounding grows to on this problem."""
    UNJUDGED = "not judged"
    """It could not be determined."""


EMPTY = Ledger(())

UNHALVED = "the state and the batch agree; the steps are compared as a whole, so that it is the gradients or the update that differ"

READ = frozenset({"initial", "buffers", "accumulator", "optimizer", "average", "count", "step"})
"""Kinds of stage that may differ although all computation is right: `read` leaves them out, or a trainer hides them."""


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of two backends on one problem.

    Attributes:
        problem: the run that both trained.
        reference, backend: their names.
        verdict: as everywhere; AGREE also where growth explains the distance.
        kind: of the difference.
        sentence: the first divergence, in one sentence.
        first: the row that it is about.
        culprit: which side is wrong.
        explanation: the culprit's mistake, confirmed by training; None where no known mistake explains the difference.
        ledger: the lockstep run.
        free: the two whole runs compared.
        carried: each backend compared with itself, by name.
        exchanged: the stages of the step where they diverge, each computed by the backend from the reference's.
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
    limits: Callable[[Problem, Trainer], StageLimits] = rounding.of_stage,
    growth: Callable[[Problem, Implementation], Trajectory] = rounding.of_run,
) -> Diagnosis:
    """Where `backend` first differs from `reference`, which of them is wrong, and by which mistake.

    Args:
        problem: a Problem, a name of the catalogue, or the path of a problem file.
        backend, reference: registered names or backends.
        others: who may be asked which side is wrong; by default the certified reference, then every other backend.
        dtype, epochs: instead of the problem's own.
        limits: (problem, a trainer of the reference) -> the limits of the stages of one step.
        growth: (problem, the reference) -> the largest distance that rounding causes between two whole runs.

    Raises:
        LockstepError: a name is not known, both are one, or the problem is not valid.
    """
    chosen = problem if isinstance(problem, Problem) else find(problem)
    prepared = chosen.replace(dtype=dtype or chosen.dtype, epochs=chosen.epochs if epochs is None else epochs)
    for one in (reference, backend):
        if isinstance(one, str):
            registry.entry(one)
    names = (name_of(reference), name_of(backend))
    if names[0] == names[1]:
        raise LockstepError(
            f"{names[0]} would be compared with itself, and nothing could differ",
            f"backend {names[1]}, reference {names[0]}",
            "name another backend, or another reference",
        )
    runs = [run_one(one, prepared) for one in (reference, backend)]
    if lost := untrained(prepared, names, runs):
        return lost
    loaded = [registry.load(one) if isinstance(one, str) else one for one in (reference, backend)]
    try:
        sides = (loaded[0], loaded[1])
        asked = list(available(prepared, others, names)) if others is not None else None
        witnesses = (lambda: available(prepared, None, names)) if asked is None else (lambda: asked)
        return investigate(
            prepared,
            sides,
            (runs[0], runs[1]),
            witnesses,
            limits=limits(prepared, sides[0].trainer(prepared)),
            growth=growth(prepared, sides[0]),
        )
    except Exception as error:  # an exception of a backend is a finding about it, not the harness' end
        sentence = f"{' or '.join(names)} failed outside its run: {describe(error)}"
        return Diagnosis(prepared, *names, Verdict.ERROR, Kind.UNJUDGED, sentence)


def untrained(spec: RunSpec, names: Sequence[str], runs: Iterable[Run]) -> Diagnosis | None:
    """The diagnosis where one of two runs did not train; None where both did."""
    for run in runs:
        if run.trace is None:
            sentence = f"{run.backend} did not train: {run.reason}{f'; {run.fix}' if run.fix else ''}"
            return Diagnosis(spec, names[0], names[1], run.verdict, Kind.UNJUDGED, sentence)
    return None


def investigate(
    spec: RunSpec,
    sides: tuple[Implementation, Implementation],
    runs: tuple[Run, Run],
    witnesses: Callable[[], Iterable[Implementation]],
    *,
    limits: StageLimits,
    growth: Trajectory,
    explanations: Sequence[Explanation] = EXPLANATIONS,
) -> Diagnosis:
    """The diagnosis of two implementations that trained, whoever they are.

    Args:
        spec: the run that both trained.
        sides: the reference and the other.
        runs: their free runs.
        witnesses: who may be asked which side is wrong, the most reliable first.
        limits: of the stages of one step.
        growth: the largest distance that rounding causes between two whole runs.
        explanations: the ones to try, in this order.
    """
    return _Investigation(spec, sides, runs, witnesses, limits, growth, explanations).judged()


class _Investigation:
    """Two implementations that trained, and the evidence about them."""

    def __init__(
        self,
        spec: RunSpec,
        sides: tuple[Implementation, Implementation],
        runs: tuple[Run, Run],
        witnesses: Callable[[], Iterable[Implementation]],
        limits: StageLimits,
        growth: Trajectory,
        explanations: Sequence[Explanation],
    ) -> None:
        self.spec, self.sides = spec, sides
        self.runs = (_trajectory(runs[0]), _trajectory(runs[1]))
        self.names = (sides[0].name, sides[1].name)
        self.witnesses, self.explanations = witnesses, explanations
        self.limits, self.growth = limits, growth
        self.free = compare_trajectories(*self.runs, growth, "free/")
        self.lockstep = self._lockstep()
        self.ledger = self.lockstep.ledger
        self.carried = {
            one.name: carried_state(spec, lambda one=one: one.trainer(spec), growth, self.suspicious)  # type: ignore[misc]
            for one in sides
        }

    def judged(self) -> Diagnosis:
        """From the most to the least certain: a stage of one step, one side against itself, the whole runs."""
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
        """Whether resuming from a snapshot diverges: then the snapshot of the state may be wrong."""
        return any(row.kind == "continued" for one in self.carried.values() for row in one.blamed)

    def _lockstep(self) -> LockstepRun:
        reference, other = (one.trainer(self.spec) for one in self.sides)
        return lockstep_run(
            self.spec, reference, other, steps_of(self.spec, other, self.suspicious), self.limits
        )

    @property
    def suspicious(self) -> tuple[int, ...]:
        """The step whose loss first differs, and the one before it, whose update may be why; none if no loss does."""
        row = next(iter(self.free.rows))
        if row.verdict is not Verdict.DIFFER or not 0 <= row.step < self.spec.steps:
            return ()
        return (max(row.step - 1, 0), row.step)

    def _local(self, row: Row) -> Diagnosis:
        culprit = by_majority(self.spec, self.sides, self.witnesses(), row, self.limits)
        kind = Kind.CARRIED if row.kind == "state" else Kind.LOCAL
        inputs = f"{self._inputs(row)}; " if INPUTS.get(row.kind) else ""
        sentence = (
            f"{self.names[1]} first diverges from {self.names[0]} at step {row.step}, in {place_of(row)}: "
            f"{values_of(row, self.names)}; {inputs}{blame(culprit)}"
        )
        injected = self._inject(row)
        if words := injection.describe(row, injected, self.ledger, self.names[0]):
            sentence += f"; {words}"
        return self._diagnosis(Verdict.DIFFER, kind, sentence, row, culprit, injected)

    def _inputs(self, row: Row) -> str:
        """A clause about the row's inputs: they agree, or the part of them that was compared does."""
        if row.kind in rounding.WHOLE and not any(one.kind == "gradient" for one in self.ledger.rows):
            return UNHALVED
        hidden = _unshown(self.ledger, row)
        if not hidden:
            return "its inputs agree"
        return (
            f"what was compared before it agrees, and {self.names[1]} does not show what stands between: "
            f"{', '.join(hidden)}"
        )

    def _inject(self, row: Row) -> Ledger:
        if row.kind not in injection.COMPUTED:
            return EMPTY
        reference, other = (one.trainer(self.spec) for one in self.sides)
        return injection.inject(self.spec, reference, other, row.step, self.limits)

    def _carried(self, name: str, row: Row, steps: str) -> Diagnosis:
        fused = row.kind == "fit"
        how = "its whole run is not what its steps make" if fused else "resuming from its snapshot diverges"
        sides = ("step by step", "by fit") if fused else ("uninterrupted", "continued")
        sentence = (
            f"{name} diverges from itself at step {row.step}, in {place_of(row)}: {values_of(row, sides)}; "
            f"{steps}{how}"
        )
        return self._diagnosis(Verdict.DIFFER, Kind.CARRIED, sentence, row, Culprit(name, how))

    def _unexplained(self, row: Row) -> Diagnosis:
        culprit = by_free_runs(self.spec, self.sides, self.witnesses(), self.runs, self.growth)
        sentence = (
            f"the free runs diverge at step {row.step}, in {place_of(row)}: {values_of(row, self.names)}, further than "
            f"rounding grows; {self.ledger.without_blame}; {blame(culprit)}"
        )
        return self._diagnosis(Verdict.DIFFER, Kind.CARRIED, sentence, row, culprit)

    def _without_difference(self) -> Diagnosis:
        unclear = undecided(self.ledger.rows, self.spec.dtype)
        agreed = f"every stage of {len(self.ledger.steps)} steps agrees on equal inputs"
        if unclear:
            agreed = (
                f"{len(unclear)} of {len(self.ledger.rows)} stages of {len(self.ledger.steps)} steps could not be judged on equal "
                f"inputs, first step {unclear[0].step}, {place_of(unclear[0])}: {unclear[0].reason}; all others agree"
            )
        if row := _first((*self.ledger.rows, *self.free.rows), Verdict.ERROR):
            sentence = f"it cannot be judged from step {row.step} on, in {place_of(row)}: {row.reason}; what came before agrees"
            return self._diagnosis(Verdict.ERROR, Kind.UNJUDGED, sentence, row)
        if row := _first(self._above_noise(), Verdict.INCONCLUSIVE):
            sentence = f"{agreed}, but the free runs cannot be judged in {place_of(row)}: {row.reason}"
            return self._diagnosis(Verdict.INCONCLUSIVE, Kind.GROWTH, sentence, row)
        verdict = Verdict.INCONCLUSIVE if unclear else self.ledger.verdict
        narrow = rounding.of_rounding(self.spec.dtype, self.runs[0])
        if row := compare_trajectories(*self.runs, narrow, "free/").first:
            sentence = f"{agreed}; the free runs diverge at step {row.step}, in {place_of(row)}, no further than rounding grows"
            return self._diagnosis(verdict, Kind.GROWTH, sentence, row)
        if unclear:
            return self._diagnosis(verdict, Kind.UNJUDGED, f"the whole runs agree; {agreed}", unclear[0])
        return self._diagnosis(verdict, Kind.NONE, f"nothing diverges: {agreed}, and so do the whole runs")

    def _above_noise(self) -> list[Row]:
        """The rows of the free runs without leaves that contain only rounding: a bias before a batch norm."""
        largest = max(row.scale for row in self.free.rows)
        noise = UNITS * float(np.finfo(self.spec.dtype).eps) * largest
        return [row for row in self.free.rows if row.limit > noise or row.scale > noise]

    def _diagnosis(
        self,
        verdict: Verdict,
        kind: Kind,
        sentence: str,
        row: Row | None = None,
        culprit: Culprit | None = None,
        injected: Ledger = EMPTY,
    ) -> Diagnosis:
        explanation = self._explained(row, culprit) if verdict is Verdict.DIFFER and row else None
        if explanation:
            sentence += (
                f"; {self._suspect(culprit).name} {explanation.description}{left_over(explanation.rest)}"
            )
        return Diagnosis(
            self.spec,
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
            injected,
        )

    def _explained(self, row: Row, culprit: Culprit | None) -> Confirmed | None:
        suspect = self._suspect(culprit)
        swapped = suspect is self.sides[0]
        witness = self.sides[1] if swapped else self.sides[0]
        trainer = suspect.trainer(self.spec)
        initial = trainer.read(trainer.init()).parameters
        evidence = Evidence(self.spec, row.step, initial, self.lockstep.observed, swapped)
        return explain(witness, suspect, evidence, explanations=self.explanations)

    def _suspect(self, culprit: Culprit | None) -> Implementation:
        """The reference where it is the culprit, else the other side."""
        return self.sides[0] if culprit and culprit.name == self.names[0] else self.sides[1]


def _trajectory(run: Run) -> Trajectory:
    assert run.trace is not None
    return trajectory(run.trace)


def _unshown(ledger: Ledger, row: Row) -> list[str]:
    """The reference's modules between the last stage that was compared and this row, which the other side does not show."""
    hidden: list[str] = []
    for one in ledger.rows:
        if one.step != row.step or one.kind != "forward":
            continue
        if one.name == row.name:
            break
        hidden = [*hidden, one.part] if one.reason == UNSHOWN else []
    else:
        if row.kind == "forward":
            return []
    return [one for one in hidden if not one.startswith(f"{row.part}.")]  # its own parts


def _first(rows: Iterable[Row], verdict: Verdict) -> Row | None:
    return next((row for row in rows if row.verdict is verdict), None)
