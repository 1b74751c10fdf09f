"""Carried state: does one backend continue as it began? `fit` against steps, steps against write, read and continue.

A lockstep run gives every step its state anew, so it cannot see what goes wrong between steps: a counter that is reset, a
buffer that is not kept, a batch cursor, a fused path. Each of these parts one backend from itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from lockstep.backends.problem import Batch, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Snapshot, Trace, Trainer
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.growth import Course, compare_courses, course
from lockstep.harness.runs.free_run import StepByStep, describe, fit_of
from lockstep.harness.runs.lockstep_run import chosen_steps
from lockstep.harness.runs.stages import fields

MOST_CONTINUATIONS = 4
"""Steps at which a fresh trainer takes over: each may cost a compilation."""


def carried_state(
    problem: Problem, trainer: Callable[[], Trainer], limits: Course, also: Iterable[int] = ()
) -> Ledger:
    """What one backend does not carry from step to step; AGREE if nothing.

    Rows ``fit/...`` compare the whole run by `fit` (right) with one `step` after the other (left); rows
    ``continued/...`` compare one step of the uninterrupted run (left) with that of a fresh trainer that was given its
    state (right).

    Args:
        problem: what is trained.
        trainer: a fresh trainer of it at each call.
        limits: the largest distance that passes between two whole runs, as `lockstep.harness.numerics.growth.growth_limits` gives it.
        also: steps at which a fresh trainer takes over in any case.
    """
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        fitted = _fit(problem, trainer(), limits)
        return Ledger((*fitted, *_continuations(problem, trainer, also)))


def train(problem: Problem, trainer: Trainer) -> Trace:
    """The whole run, by `fit` where the trainer has it."""
    return fit_of(trainer)(trainer.init(), problem.batches(), LOSSES_ONLY)


def _fit(problem: Problem, trainer: Trainer, limits: Course) -> Iterable[Row]:
    if "fit" not in trainer.capabilities:
        return [Row(0, "fit/loss", Verdict.SKIPPED, "it has no capability 'fit'")]
    fitted = course(train(problem, trainer))
    stepped = course(StepByStep(trainer).fit(trainer.init(), problem.batches(), LOSSES_ONLY))
    return compare_courses(stepped, fitted, limits, "fit/").rows


def _continuations(problem: Problem, trainer: Callable[[], Trainer], also: Iterable[int]) -> list[Row]:
    """One step of the uninterrupted run, and the same step by a fresh trainer from a snapshot, at some steps."""
    ours = trainer()
    if "optimizer_state" not in ours.capabilities:
        return [Row(0, "continued/state", Verdict.SKIPPED, "it has no capability 'optimizer_state'")]
    wanted = sorted({*_handovers(problem), *also})
    rows: list[Row] = []
    state = ours.init()
    for step, batch in enumerate(itertools.islice(problem.batches(), wanted[-1] + 1)):
        before = ours.read(state) if step in wanted else None
        state, loss = ours.step(state, batch)
        if before is not None:
            left = {"loss": np.asarray(loss), **fields(ours.read(state))}
            try:
                right = _continued(trainer(), before, batch)
            except Exception as error:  # what a backend raises is a finding about it
                reason = f"it cannot continue from its own snapshot: {describe(error)}"
                return [*rows, Row(step, "continued/state", Verdict.DIFFER, reason)]
            rows += _compared(problem, step, left, right)
    return rows


def _continued(fresh: Trainer, snapshot: Snapshot, batch: Batch) -> Course:
    state, loss = fresh.step(fresh.write(fresh.init(), snapshot), batch)
    return {"loss": np.asarray(loss), **fields(fresh.read(state))}


def _handovers(problem: Problem) -> set[int]:
    """Steps from the second on: with accumulation, one before an update, where something is accumulated."""
    steps = [step for step in chosen_steps(problem) if step] or [0]
    places = np.linspace(0, len(steps) - 1, min(MOST_CONTINUATIONS, len(steps))).astype(int)
    return {steps[place] for place in places}


def _compared(problem: Problem, step: int, left: Course, right: Course) -> list[Row]:
    """The same program on the same numbers: one rounding is room enough for another order of instructions."""
    eps = float(np.finfo(problem.dtype).eps)
    names = {name: f"continued/{name}" for name in (*left, *right)}
    limits = {
        names[name]: eps * float(np.abs(value.astype(np.float64)).max(initial=0.0))
        for name, value in left.items()
    }
    renamed = [{names[name]: value for name, value in side.items()} for side in (left, right)]
    return compare_stages(step, renamed[0], renamed[1], limits)
