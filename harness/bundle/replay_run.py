"""One recorded run and the run that repeats it here, compared: the same for a problem and for a user's own code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lockstep import backends as registry
from lockstep.backends.problem import Arrays
from lockstep.harness.bundle import Recorded
from lockstep.harness.bundle.hashes import BATCHES
from lockstep.harness.bundle.replay_stages import replay_stages, summaries
from lockstep.harness.core.compare import (
    INPUTS,
    Comparison,
    Expected,
    Fingerprint,
    Run,
    compare_named,
    compare_results,
)
from lockstep.harness.core.ledger import Ledger
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import Judge, Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.diagnose.divergence import divergence
from lockstep.harness.runs.free_run import fit_of
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.lockstep_run import StageLimits
from lockstep.harness.runs.recorder import RecordedSteps, Recorder
from lockstep.harness.runs.workers import run_one

RECORDED = " (recorded)"
"""What stands behind the name of a backend whose run was not made here."""

EXACT = Tolerance(0.0, 0.0, True, "initial parameters: every bit")

Inputs = Callable[[Comparison, Run, Run], Comparison]
"""(a blank comparison, the recorded run, the run here) -> whether both started from the same and saw the same."""


class Judges:
    """What a run is judged by after any number of steps; each is made when it is first needed.

    Args:
        measure: the judge after so many steps, 1 or more.
    """

    def __init__(self, measure: Callable[[int], Judge]) -> None:
        self._measure = measure
        self._known: dict[int, Judge] = {0: EXACT}

    def at(self, steps: int) -> Judge:
        """After so many."""
        if steps not in self._known:
            self._known[steps] = self._measure(steps)
        return self._known[steps]


@dataclass(frozen=True)
class Subject:
    """What is repeated, and by what it is judged.

    Attributes:
        spec: what is trained.
        batches: the fingerprint of all batches here.
        expected: what both runs must end with.
        inputs: how what both were given is compared.
        judges: by what the run is judged; the next where the one before finds a difference.
        limits: (who computes here) -> how far the stages of one step may be apart.
        given: the user's tolerance, or the fixed one where that was wanted.
    """

    spec: RunSpec
    batches: Fingerprint
    expected: Expected
    inputs: Inputs
    judges: tuple[Judges, ...]
    limits: Callable[[Implementation], StageLimits]
    given: Tolerance | None


@dataclass(frozen=True)
class ReplayedRun:
    """What was recorded, and the result here.

    Attributes:
        left: the recorded run, its backend's name followed by RECORDED.
        right: the run here.
        tolerance: what the whole run was judged by.
        comparisons: every quantity; empty where it did not train here.
        diagnosis: where they first differ, or that all recorded stages agree; None where neither can be said.
    """

    left: Run
    right: Run
    tolerance: Judge
    comparisons: tuple[Comparison, ...] = ()
    diagnosis: Diagnosis | None = None


def replay_run(subject: Subject, recorded: Recorded, chosen: str | Implementation) -> ReplayedRun:
    """Train what was recorded as it was trained there, and compare."""
    spec = subject.spec
    left = dataclasses.replace(recorded.run, backend=recorded.run.backend + RECORDED)
    recorder = Recorder(RecordedSteps(tuple(recorded.parameters)))
    right = run_one(chosen, spec, recorder if recorded.stepwise else fit_of)
    if right.trace is None:
        return ReplayedRun(left, right, subject.judges[0].at(spec.steps))
    right = dataclasses.replace(right, given={**right.given, BATCHES: subject.batches})
    implementation = registry.load(chosen) if isinstance(chosen, str) else chosen
    ledger = replay_stages(spec, recorded, implementation, subject.limits, subject.given)
    after = {steps: (there, recorder.parameters[steps]) for steps, there in recorded.parameters.items()}
    both = _Both(subject, left, right, after, ledger)
    first, *others = subject.judges
    result = both.compared(first)
    for judges in others:
        if any(one.verdict is Verdict.DIFFER for one in result.comparisons):
            result = both.compared(judges)
    return result


@dataclass(frozen=True)
class _Both:
    """Both runs, trained, and what of the comparison does not depend on the tolerance."""

    subject: Subject
    left: Run
    right: Run
    parameters: Mapping[int, tuple[Arrays, Arrays]]
    ledger: Ledger

    def compared(self, judges: Judges) -> ReplayedRun:
        """Every quantity, the parameters after so many steps by their judge."""
        spec, runs = self.subject.spec, (self.left, self.right)
        judge = judges.at(spec.steps)
        whole = [
            self.subject.inputs(self._blank(INPUTS), *runs),
            *compare_results(spec, *runs, judge, self.subject.expected),
        ]
        after = {steps: list(self._after(steps, judges.at(steps))) for steps in self.parameters}
        rows = [*whole, *(row for some in after.values() for row in some)]
        rows += summaries(self.ledger, spec, (self.left.backend, self.right.backend))
        diagnosis = divergence(spec, runs, whole, after, self.ledger)
        return ReplayedRun(*runs, judge, tuple(rows), diagnosis)

    def _after(self, steps: int, judge: Judge) -> Iterator[Comparison]:
        shapes = {name: self.subject.expected.shapes[name] for name in self.subject.expected.start}
        blank = dataclasses.replace(self._blank(""), tolerance=judge)
        # Renamed only now: a measured tolerance knows a parameter by its own name.
        for one in compare_named(blank, shapes, *self.parameters[steps]):
            yield dataclasses.replace(one, quantity=f"{one.quantity} after {steps} steps")

    def _blank(self, quantity: str) -> Comparison:
        spec = self.subject.spec
        names = self.left.backend, self.right.backend
        return Comparison(spec.name, spec.dtype, *names, quantity, Verdict.AGREE)
