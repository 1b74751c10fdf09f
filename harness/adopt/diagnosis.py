"""Diagnosis of adopted trainers: the first step and stage that parts, on equal inputs, and what the other side does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.explain import explain
from lockstep.harness.adopt.lockstep import Lockstep, lockstep_run
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side, held
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.ledger import INPUTS, Ledger, Row, compare, compare_stages
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis, Kind
from lockstep.harness.diagnose.wording import place_of, values_of
from lockstep.harness.mapping.modules import modules_of


def diagnose(
    trainers: Sequence[Adopted],
    batches: Iterable[Any],
    *,
    mapping: Any = None,
    steps: int | None = None,
    name: str = "adopted",
) -> Diagnosis:
    """Where the second trainer first parts from the first, and what it does.

    Args:
        trainers: two.
        batches, mapping, steps, name: as of `verify`.

    Raises:
        LockstepError: as of `verify`.
    """
    from lockstep.harness.adopt.verification import verify

    if len(trainers) != 2:
        raise AdoptionError(
            "a diagnosis is of two trainers", f"{len(trainers)}", "give the reference and the other"
        )
    (case,) = verify(trainers, batches, mapping=mapping, steps=steps, diagnose="all", name=name).cases
    if case.diagnoses:
        return case.diagnoses[0]
    lost = next(run for run in case.runs if run.trace is None)
    told = f"{lost.backend} did not train: {lost.reason}"
    names = [run.backend for run in case.runs]
    return Diagnosis(case.problem, names[0], names[1], lost.verdict, Kind.UNJUDGED, told)


def diagnose_sides(
    task: Task, left: Side, right: Side, traces: tuple[Trace, Trace], tolerance: Judge
) -> Diagnosis:
    """The same of two sides that trained, and how far apart their runs may be."""
    found = lockstep_run(task, left, right, modules_of(right.mapping, left.start.parameters))
    carried = {side.name: Ledger(tuple(_continued(side, task))) for side in (left, right)}
    free = Ledger(tuple(_free(task, left, right, traces, tolerance)))
    verdict, kind, row, told = _judged(left.name, right.name, found, carried, free)
    explanation = (
        explain(task, left, right, traces[1], tolerance, found.parted) if verdict is Verdict.DIFFER else None
    )
    if explanation:
        told += f"; {right.name} {explanation.does}"
    return Diagnosis(
        task,
        left.name,
        right.name,
        verdict,
        kind,
        told,
        row,
        explanation=explanation,
        ledger=found.ledger,
        free=free,
        carried=carried,
    )


def _judged(
    left: str, right: str, found: Lockstep, carried: dict[str, Ledger], free: Ledger
) -> tuple[Verdict, Kind, Row | None, str]:
    """From the most to the least certain: a stage of one step, one side against itself, the whole runs."""
    if row := found.ledger.first:
        inputs = f"; {_inputs(right, row, found)}" if INPUTS.get(row.kind) else ""
        told = f"{right} first parts from {left} at step {row.step}, in {place_of(row)}: {values_of(row, (left, right))}"
        return Verdict.DIFFER, Kind.LOCAL, row, told + inputs
    steps = len(found.ledger.steps)
    for name, ledger in carried.items():
        if row := ledger.first:
            told = (
                f"{name} parts from itself at step {row.step}, in {place_of(row)}: "
                f"{values_of(row, ('uninterrupted', 'continued'))}; it does not go on where it was read"
            )
            return Verdict.DIFFER, Kind.CARRIED, row, told
    if row := free.first:
        told = (
            f"the free runs part at step {row.step}, in {place_of(row)}: {values_of(row, (left, right))}, further than "
            f"is allowed; each of {steps} steps that were compared by itself agrees"
        )
        return Verdict.DIFFER, Kind.CARRIED, row, told
    if row := next((one for one in found.ledger.rows if one.verdict is Verdict.ERROR), None):
        return Verdict.ERROR, Kind.UNJUDGED, row, f"it cannot be judged from step {row.step} on: {row.reason}"
    told = f"nothing parts: every stage of {steps} steps agrees on equal inputs, and so do the whole runs"
    return found.ledger.verdict, Kind.NONE, None, told


def _inputs(right: str, row: Row, found: Lockstep) -> str:
    """That they agree, or up to where that is known."""
    unshown = found.parted.unshown(row.name) if found.parted else []
    if not unshown:
        return "its inputs agree"
    return f"what was compared before it agrees, and {right} does not show what stands between: {', '.join(unshown)}"


def _continued(side: Side, task: Task) -> list[Row]:
    """A step of the uninterrupted run, and the same from what was read before it: state that a snapshot does not hold."""
    last = min(2, task.steps - 1)
    trainer, state = side.trainer, side.begin()
    *batches, batch = itertools.islice(side.batches(task), last + 1)
    for one in batches:
        state, _ = trainer.step(state, one)
    before = trainer.read(state)
    ends = []
    for begun in (state, trainer.write(trainer.init(), before)):
        after, loss = trainer.step(begun, batch)
        read = trainer.read(after)
        ends.append({"loss": np.asarray(loss).reshape(()), **held(read)})
    left, right = ({f"continued/{name}": value for name, value in one.items()} for one in ends)
    eps = float(np.finfo(task.dtype).eps)
    limits = {
        name: eps * float(np.abs(value.astype(np.float64)).max(initial=0.0)) for name, value in left.items()
    }
    return compare_stages(last, left, right, limits)


def _free(
    task: Task, left: Side, right: Side, traces: tuple[Trace, Trace], tolerance: Judge
) -> Iterable[Row]:
    """The whole runs: the first step whose losses part, else the last, and what they end with."""
    losses = traces[0].losses, traces[1].losses
    limits = tolerance.limit(LOSS, tolerance.scale(losses[0], True))
    step = _first_parted(*losses, limits)
    yield compare(
        step, "free/loss", losses[0][step : step + 1], losses[1][step : step + 1], float(limits[step])
    )
    ends = left.canonical(held(traces[0].final)), right.canonical(held(traces[1].final))
    for name, value in ends[0].items():
        if name in ends[1]:
            limit = tolerance.limit(name, tolerance.scale(value, False)).max(initial=0.0)
            yield compare(task.steps - 1, f"free/{name}", value, ends[1][name], float(limit))


def _first_parted(left: Array, right: Array, limits: Array) -> int:
    with np.errstate(all="ignore"):
        parted = ~(np.abs(left.astype(np.float64) - right) <= limits)
    return int(parted.argmax()) if parted.any() else len(left) - 1
