"""The lockstep run: at every step both sides start from the reference's whole state, and each stage is compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Arrays, Batch, Problem
from lockstep.backends.protocol import Snapshot, Trainer
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.limits import Limits, gradients
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.stages import fields, out_of_reach, stages_of

MOST_STEPS = 12
"""Steps that are looked at by default: a step in lockstep costs some ten plain ones."""


def lockstep_run(
    problem: Problem, reference: Trainer, other: Trainer, steps: Iterable[int], limits: Limits
) -> Ledger:
    """Train the reference; compare every stage of the chosen steps on equal inputs.

    Each chosen step starts from the reference's snapshot on both sides, and the reference's gradients go into the
    other's optimizer, so that no error accumulates and the first stage that differs is the one that is wrong.

    Args:
        problem: what is trained.
        reference, other: two trainers of it.
        steps: which steps to compare, from 0.
        limits: the largest distance that passes, by stage.

    Raises:
        LockstepError: a step is beyond the run, or there is none.
    """
    wanted = sorted(set(steps))
    if not wanted or wanted[0] < 0 or wanted[-1] >= problem.steps:
        raise LockstepError(
            "the steps to compare are not steps of the run",
            str(wanted),
            f"give some of 0 to {problem.steps - 1}",
        )
    rows = _initial(reference, other)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging run is judged by its numbers
        state = reference.init()
        for step, batch in enumerate(itertools.islice(problem.batches(), wanted[-1] + 1)):
            if step in wanted:
                snapshot = reference.read(state)
                if not _finite(snapshot):
                    lost = f"the reference diverged: its parameters are not finite before step {step}"
                    rows.append(Row(step, "state", Verdict.ERROR, lost))
                    break
                rows += _step(problem, step, (reference, other), snapshot, batch, limits)
            state, _ = reference.step(state, batch)
    return Ledger(tuple(rows))


def chosen_steps(spec: RunSpec, also: Iterable[int] = ()) -> list[int]:
    """The first steps, the last, both sides of what changes on the way, and a geometric sample; about MOST_STEPS.

    Args:
        spec: whose steps.
        also: steps that are compared in any case.
    """
    last, every = spec.steps - 1, spec.accumulation
    first = [0, 1, 2, last, every - 1, 2 * every - 1]
    sample = np.geomspace(3, max(last, 3), 5).astype(int).tolist()
    ranked = dict.fromkeys(step for step in (*also, *first, *spec.landmarks, *sample) if 0 <= step <= last)
    return sorted(list(ranked)[:MOST_STEPS])


def _initial(reference: Trainer, other: Trainer) -> list[Row]:
    """What both were given, and where both start by themselves."""
    left, right = (
        {**_under("given", one.given()), **_under("initial", fields(one.read(one.init())))}
        for one in (reference, other)
    )
    return compare_stages(0, left, right, {})


def _under(kind: str, arrays: Arrays) -> dict[str, Array]:
    return {f"{kind}/{name}": value for name, value in arrays.items()}


def _step(
    problem: Problem,
    step: int,
    sides: tuple[Trainer, Trainer],
    snapshot: Snapshot,
    batch: Batch,
    limits: Limits,
) -> list[Row]:
    reference, other = sides
    ours = stages_of(reference, snapshot, batch)
    try:
        theirs = stages_of(other, snapshot, batch, gradients(ours))
    except Exception as error:  # what a backend raises is a finding about it, not the harness' end
        return [Row(step, "step", Verdict.ERROR, describe(error))]
    return compare_stages(step, ours, theirs, limits(snapshot, batch), out_of_reach(other, problem, step))


def _finite(snapshot: Snapshot) -> bool:
    return all(np.isfinite(value).all() for value in fields(snapshot).values())
