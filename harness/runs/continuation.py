"""Continuation: whether one implementation agrees with itself. `fit` against steps, steps against write, read and continue.

A lockstep run writes the state anew before every step, so it cannot show a fault between steps: a counter that is reset, a
buffer that is lost, a batch cursor, a fused path. Each of these makes one implementation differ from itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from lockstep.backends.problem import Arrays, Batch
from lockstep.backends.protocol import LOSSES_ONLY, Snapshot, Trainer
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import StepByStep, describe, train
from lockstep.harness.runs.lockstep_run import MOST_CARRIED, chosen_steps
from lockstep.harness.runs.stages import fields
from lockstep.harness.runs.trajectory import Trajectory, compare_trajectories, trajectory

MOST_CONTINUATIONS = 4
"""Steps at which a fresh trainer takes over: each may cost a compilation."""

ROUNDING = 1.0
"""Eps, of the largest magnitude: the same program on the same numbers may order its instructions in another way."""


def carried_state(
    spec: RunSpec, trainer: Callable[[], Trainer], limits: Trajectory, also: Iterable[int] = ()
) -> Ledger:
    """The state that one implementation loses from step to step; AGREE if it loses none.

    Rows ``fit/...`` compare the whole run by `fit` (right) with one `step` after the other (left); rows
    ``continued/...`` compare one step of the uninterrupted run (left) with the same step of a fresh trainer that starts
    from its snapshot (right).

    Args:
        spec: the run.
        trainer: a fresh trainer of it at each call.
        limits: the largest distance that passes between two whole runs, as `lockstep.harness.numerics.limits.of_run` gives it.
        also: steps at which a fresh trainer takes over in any case.
    """
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        return Ledger((*_fit(spec, trainer(), limits), *_continuations(spec, trainer, also)))


def _fit(spec: RunSpec, trainer: Trainer, limits: Trajectory) -> Iterable[Row]:
    if "fit" not in trainer.capabilities:
        return [Row(0, "fit/loss", Verdict.SKIPPED, "it has no capability 'fit'")]
    fitted = trajectory(train(spec, trainer))
    stepped = trajectory(StepByStep(trainer).fit(trainer.init(), spec.batches(), LOSSES_ONLY))
    return compare_trajectories(stepped, fitted, limits, "fit/").rows


def _continuations(spec: RunSpec, trainer: Callable[[], Trainer], also: Iterable[int]) -> list[Row]:
    """One step of the uninterrupted run, and the same step by a fresh trainer from a snapshot, at some steps."""
    ours = trainer()
    if "optimizer_state" not in ours.capabilities:
        return [Row(0, "continued/state", Verdict.SKIPPED, "it has no capability 'optimizer_state'")]
    wanted = sorted({*_handovers(spec, ours), *also})
    rows: list[Row] = []
    state = ours.init()
    for step, batch in enumerate(itertools.islice(spec.batches(), wanted[-1] + 1)):
        before = ours.read(state) if step in wanted else None
        state, loss = ours.step(state, batch)
        if before is not None:
            left = {"loss": np.asarray(loss), **fields(ours.read(state))}
            try:
                right = _continued(trainer(), before, batch)
            except Exception as error:  # an exception of a backend is a finding about it
                reason = f"it cannot continue from its own snapshot: {describe(error)}"
                return [*rows, Row(step, "continued/state", Verdict.DIFFER, reason)]
            rows += _compared(spec, step, left, right)
    return rows


def _continued(fresh: Trainer, snapshot: Snapshot, batch: Batch) -> Arrays:
    state, loss = fresh.step(fresh.write(fresh.init(), snapshot), batch)
    return {"loss": np.asarray(loss), **fields(fresh.read(state))}


def _handovers(spec: RunSpec, trainer: Trainer) -> set[int]:
    """Steps from the second on: with accumulation, one before an update, where something is accumulated.

    Of a trainer without `fit`, which trains step by step, no later ones than a lockstep run compares.
    """
    most = spec.steps if "fit" in trainer.capabilities else MOST_CARRIED
    steps = [step for step in chosen_steps(spec) if 0 < step < most] or [0]
    places = np.linspace(0, len(steps) - 1, min(MOST_CONTINUATIONS, len(steps))).astype(int)
    return {steps[place] for place in places}


def _compared(spec: RunSpec, step: int, left: Arrays, right: Arrays) -> list[Row]:
    eps = ROUNDING * float(np.finfo(spec.dtype).eps)
    names = {name: f"continued/{name}" for name in (*left, *right)}
    limits = {
        names[name]: eps * float(np.abs(value.astype(np.float64)).max(initial=0.0))
        for name, value in left.items()
    }
    renamed = [{names[name]: value for name, value in side.items()} for side in (left, right)]
    return compare_stages(step, renamed[0], renamed[1], limits)
