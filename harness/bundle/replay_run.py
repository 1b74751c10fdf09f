"""One recorded run, made again and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.backends.problem import Problem
from lockstep.harness.bundle import Moments, Recorded
from lockstep.harness.bundle.replay_stages import restaged, summaries
from lockstep.harness.core.compare import (
    Comparison,
    Run,
    compare_named,
    compare_runs,
    expected_inputs,
)
from lockstep.harness.core.tolerance import Judge, Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.diagnose.divergence import divergence
from lockstep.harness.numerics.budget import Say
from lockstep.harness.runs.free_run import fit_of
from lockstep.harness.runs.recorder import BATCHES, Watched, batches_print
from lockstep.harness.runs.workers import Chosen, run_one
from lockstep.harness.verification.parity import judge_of

RECORDED = " (recorded)"
"""What stands behind the name of a backend whose run was not made here."""

EXACT = Tolerance(0.0, 0.0, True, "initial parameters: every bit")


class Judges:
    """What one problem's runs are judged by, after any number of steps; a budget is measured when it is first asked for."""

    def __init__(self, problem: Problem, given: Tolerance | None, say: Say) -> None:
        self._problem, self.given, self._say = problem, given, say
        self._known: dict[int, Judge] = {0: EXACT}

    def at(self, steps: int) -> Judge:
        """After so many."""
        if steps not in self._known:
            only = None if steps == self._problem.steps else steps
            self._known[steps] = judge_of(self._problem, self.given, self._say, only)
        return self._known[steps]


@dataclass(frozen=True)
class Rerun:
    """What was recorded, and what came of it here.

    Attributes:
        left: the recorded run, its backend's name followed by RECORDED.
        right: the run here.
        comparisons: every quantity; empty where it did not train here.
        diagnosis: where they first part, or that all recorded stages agree; None where neither can be said.
    """

    left: Run
    right: Run
    comparisons: tuple[Comparison, ...] = ()
    diagnosis: Diagnosis | None = None


def rerun(problem: Problem, recorded: Recorded, chosen: Chosen, judges: Judges) -> Rerun:
    """Train `problem` on a backend as it was when it was recorded, and compare."""
    left = dataclasses.replace(recorded.run, backend=recorded.run.backend + RECORDED)
    watched = Watched(Moments(tuple(recorded.parameters)))
    right = run_one(chosen, problem, watched if recorded.stepwise else fit_of)
    if right.trace is None:
        return Rerun(left, right)
    batches = batches_print(problem)
    right = dataclasses.replace(right, given={**right.given, BATCHES: batches})
    expected = {**expected_inputs(problem), BATCHES: batches}
    whole = compare_runs(problem, left, right, judges.at(problem.steps), expected)
    after = {
        steps: _parameters(problem, (left, right), recorded, watched, steps, judges.at(steps))
        for steps in recorded.parameters
    }
    ledger = restaged(problem, recorded, chosen, judges.given)
    names = left.backend, right.backend
    rows = [*whole, *_flat(after.values()), *summaries(ledger, problem, names)]
    return Rerun(left, right, tuple(rows), divergence(problem, (left, right), whole, after, ledger))


def _parameters(
    problem: Problem, runs: tuple[Run, Run], recorded: Recorded, watched: Watched, steps: int, judge: Judge
) -> list[Comparison]:
    names = runs[0].backend, runs[1].backend
    blank = Comparison(problem.name, problem.dtype, *names, "", Verdict.AGREE, tolerance=judge)
    found = compare_named(
        blank, problem.parameter_shapes, recorded.parameters[steps], watched.parameters[steps]
    )
    # Renamed only now: a budget knows a parameter by its own name.
    return [dataclasses.replace(one, quantity=f"{one.quantity} after {steps} steps") for one in found]


def _flat(lists: Iterable[list[Comparison]]) -> list[Comparison]:
    return [one for some in lists for one in some]
