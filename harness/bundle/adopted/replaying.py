"""Replay of a user's own training code: train it here on the same batches, and compare with what was recorded there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.harness import bundle as bundles
from lockstep.harness.adopt.measured import measure
from lockstep.harness.adopt.task import Task, task_of
from lockstep.harness.adopt.training import Side, held, refuse_random
from lockstep.harness.bundle import Bundle, BundleError, KeptTask, Moments, Recorded
from lockstep.harness.bundle.adopted.compared import Compared
from lockstep.harness.bundle.adopted.recording import given_of, trained
from lockstep.harness.bundle.adopted.side import check_drawn, check_dtype, side_of
from lockstep.harness.bundle.adopted.stages import hashes_of, restaged
from lockstep.harness.bundle.replay_run import EXACT, RECORDED
from lockstep.harness.bundle.replaying import Replayed
from lockstep.harness.core.compare import Run
from lockstep.harness.core.tolerance import FIXED, Judge, Tolerance, choose
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems.document import shortened
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.recorder import Watched
from lockstep.harness.verification.parity import Case

Judged = Callable[[int], Judge]
"""By what the parameters after so many steps are judged."""


def replay_adopted(
    source: Bundle | str | Path,
    trainer: Adopted,
    batches: Iterable[Any],
    *,
    mapping: Any = None,
    tolerance: str = "budget",
    rtol: float | None = None,
    atol: float | None = None,
) -> Replayed:
    """Train an adopted trainer from the recorded start, on the same batches, and judge whether the same comes of it.

    The hash of every batch and the start are compared to the bit, the loss of every step, the parameters after recorded steps and
    at the end within the tolerance. The stages of a recorded step are computed here from the recorded parameters.

    Args:
        source: what `record_adopted` gave or wrote.
        trainer: what ``adopt`` of a backend gives.
        batches: pairs (x, y), one a step, as they were recorded.
        mapping: from the recorded names to this trainer's, a `lockstep.harness.adopt.Mapping` or a dict; by default they are the same.
        tolerance: ``fixed``, or ``budget``: where the fixed one fails, what rounding can do is measured here.
        rtol, atol: |recorded − here| ≤ atol + rtol·|recorded| instead.

    Raises:
        LockstepError: the bundle is not valid, or the trainer or the batches cannot be compared with it. Nothing was trained.
    """
    bundle = source if isinstance(source, Bundle) else bundles.load(source)
    kept = _task_of(bundle)
    (recorded,) = bundle.runs
    given = choose(kept.dtype, rtol, atol, tolerance)
    check_dtype(kept, trainer)
    task = task_of([trainer], batches, kept.steps, kept.name)
    side = side_of(kept, recorded, trainer, mapping)
    refuse_random(trainer, task.data[0])
    check_drawn(kept, trainer, task)
    case = _case(task, side, kept, recorded, given)
    here = {**manifest(), "backends": {trainer.name: dict(case.runs[1].environment)}}
    return Replayed((case,), recorded=bundle.environment, here=here)


def _task_of(bundle: Bundle) -> KeptTask:
    if bundle.task is None:
        raise BundleError(
            "it was recorded of problems, not of a trainer of your own",
            ", ".join(shortened(one.document["name"]) for one in bundle.problems[:3]),
            "replay it without --trainer",
        )
    return bundle.task


def _case(task: Task, side: Side, kept: KeptTask, recorded: Recorded, given: Tolerance | None) -> Case:
    """Everything compared; where the fixed tolerance fails and none was given, by what rounding was measured to do."""
    left = dataclasses.replace(recorded.run, backend=recorded.run.backend + RECORDED)
    watched = Watched(Moments(tuple(recorded.parameters), tuple(recorded.stages)))
    hashes = hashes_of(task)
    right = _run(task, side, watched, hashes)
    fixed = given or FIXED[task.dtype]
    if right.trace is None:
        return Case(task, (left, right), (), fixed)
    compared = Compared(
        task,
        left,
        right,
        kept.parted(hashes),
        {n: (recorded.parameters[n], side.canonical(here)) for n, here in watched.parameters.items()},
        restaged(task, side, recorded, (kept.batches, hashes), watched.states, given),
    )
    case = compared.case(lambda steps: fixed if steps else EXACT)
    if given is None and any(one.verdict is Verdict.DIFFER for one in case.comparisons):
        return compared.case(_measured(task, side))
    return case


def _measured(task: Task, side: Side) -> Judged:
    """What rounding does, measured when it is first asked for."""
    known: dict[int, Judge] = {0: EXACT}

    def judged(steps: int) -> Judge:
        if steps not in known:
            known[steps] = measure([side], task.replace(data=task.data[:steps]))
        return known[steps]

    return judged


def _run(task: Task, side: Side, watched: Watched, hashes: Array) -> Run:
    """The run here, under the recorded names; what the user's code raises is a finding about it."""
    blank = Run(task.name, task.dtype, side.name, environment=side.trainer.environment())
    try:
        begun = side.trainer.read(side.begin())  # as the framework holds it after it was written
        started = time.perf_counter()
        trace = trained(side.trainer, task, watched, side.start)
    except AdoptionError:
        raise
    except Exception as error:
        return dataclasses.replace(blank, verdict=Verdict.ERROR, reason=describe(error))
    seconds = time.perf_counter() - started
    given = given_of(Snapshot(side.canonical(held(begun))), hashes, task.dtype)
    last = Snapshot(side.canonical(held(trace.final)), step=trace.final.step)
    return dataclasses.replace(
        blank, trace=dataclasses.replace(trace, final=last), given=given, seconds=seconds
    )
