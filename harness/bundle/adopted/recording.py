"""Recording a user's own training code: train it here, and keep in one file what it can be compared with elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Batch
from lockstep.backends.protocol import Snapshot, Trace
from lockstep.harness import bundle
from lockstep.harness.adopt.task import Task, task_of
from lockstep.harness.adopt.training import held, parted, refuse_random
from lockstep.harness.bundle import Bundle, BundleError, KeptTask, Moments, Recorded
from lockstep.harness.bundle.adopted.stages import hashes_of, kept_stages
from lockstep.harness.bundle.archive import MOST_MEMBERS
from lockstep.harness.bundle.recording import MAX_SIZE, environment_of
from lockstep.harness.core.compare import Fingerprint, Run
from lockstep.harness.documents.files import writable_folder
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.recorder import BATCHES, Watched, moments_of

UNNAMED: dict[str, str | bool] = {"version": "unknown", "reduced_precision": False}
"""What every recorded run says of its environment."""


def record_adopted(
    out: str | Path,
    trainer: Adopted,
    batches: Iterable[Any],
    *,
    steps: int | None = None,
    parameters_at: Iterable[int | str] = (),
    stages_at: Iterable[int | str] = (),
    data: bool = True,
    machine: bool = True,
    max_size: int = MAX_SIZE,
    name: str = "adopted",
) -> Bundle:
    """Train an adopted trainer, and write what is needed to train it again elsewhere and compare.

    Kept are the hash of every batch, every loss, the parameters and buffers at both ends, and what is asked for on the way; not
    the code, and not the batches.

    Args:
        out: the file to write.
        trainer: what ``adopt`` of a backend gives.
        batches: pairs (x, y), one a step; read once.
        steps: how many; by default as many as there are batches, which are begun again where there are fewer.
        parameters_at: after how many steps every parameter is kept; ``last`` for the end.
        stages_at: of which steps, from 0, every stage is kept, with the state that it started from; ``last`` for the last.
        data: whether the parameters and buffers at the start are kept, or only their hashes.
        machine: whether the environment says more than versions.
        max_size: bytes that the file may take; looked at before the training, and again before it is written.
        name: what reports call it.

    Raises:
        LockstepError: there is no batch, a moment is not valid, the code draws random numbers or fails, or the bundle would be
            too large. Nothing was written.
    """
    writable_folder(Path(out).absolute().parent)
    task = task_of([trainer], batches, steps, name)
    moments = moments_of(task, parameters_at, stages_at)
    refuse_random(trainer, task.data[0])
    check_size(trainer, task, moments, data, max_size)
    recorded, kept = _trained(trainer, task, moments)
    told = environment_of([recorded], machine)
    made = Bundle(told, (), (recorded,), kept if data else dataclasses.replace(kept, start=None))
    bundle.save(out, made, max_size)
    return made


def check_size(trainer: Adopted, task: Task, moments: Moments, data: bool, max_size: int) -> None:
    """Whether a bundle can be as small as was asked for; where stages are kept, two single steps tell their size.

    Raises:
        BundleError: it would be larger, or of more arrays than a bundle can hold.
    """
    start = trainer.read(trainer.init())
    stage = _first_stages(trainer, start, task.data[0]) if moments.stages else []
    size = task.steps * (32 + np.dtype(task.dtype).itemsize)
    size += (1 + data) * _bytes(held(start).values()) + len(moments.stages) * _bytes(stage)
    size += len(moments.parameters) * _bytes(start.parameters.values())
    arrays = (1 + data) * len(held(start)) + len(moments.stages) * len(stage)
    arrays += len(moments.parameters) * len(start.parameters)
    fix = "record fewer moments, leave the start out (--without-data), or allow more with --max-size"
    if size > max_size:
        got = f"about {size:,} of {max_size:,} bytes"
        raise BundleError("the bundle would be larger than was allowed", got, fix)
    if arrays + 9 > MOST_MEMBERS:
        raise BundleError("too many arrays", f"{arrays:,} of {MOST_MEMBERS:,}", "record fewer moments")


def _first_stages(trainer: Adopted, start: Snapshot, batch: Batch) -> list[Array]:
    """Those of the first step, and what the optimizer keeps after it."""
    stages = kept_stages(trainer, start, batch)
    state, _ = trainer.step(trainer.write(trainer.init(), start), batch)
    return [*stages.values(), *trainer.read(state).optimizer.values()]


def _bytes(arrays: Iterable[Array]) -> int:
    return sum(one.nbytes for one in arrays)


def _trained(trainer: Adopted, task: Task, moments: Moments) -> tuple[Recorded, KeptTask]:
    """The run, and what it was trained on.

    Raises:
        BundleError: it failed.
    """
    watched, start = Watched(moments), trainer.read(trainer.init())
    hashes = hashes_of(task)
    try:
        trace = trained(trainer, task, watched, start)
        stages = {
            step: kept_stages(trainer, state, task.data[step]) for step, state in watched.states.items()
        }
    except LockstepError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise BundleError(
            f"{trainer.name} did not train", describe(error), "see that it trains without Lockstep"
        ) from error
    run = Run(
        task.name,
        task.dtype,
        trainer.name,
        trace=trace,
        given=given_of(start, hashes, task.dtype),
        environment={**UNNAMED, **trainer.environment()},
    )
    start = Snapshot(start.parameters, buffers=start.buffers)
    kept = KeptTask(task.name, task.dtype, hashes, start, drawn(trainer, task.data[0]))
    return Recorded(0, run, True, watched.parameters, stages), kept


def trained(trainer: Adopted, task: Task, watched: Watched, start: Snapshot) -> Trace:
    """The whole run from `start`; of the last state what every framework has."""
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        trace = watched.train(trainer, trainer.write(trainer.init(), start), task.data)
    last = dataclasses.replace(trace.final, optimizer={})
    return Trace(trace.losses.reshape(task.steps).astype(task.dtype), last)


def given_of(start: Snapshot, hashes: Array, dtype: str) -> dict[str, Fingerprint]:
    """Hashes of what a run was given: parameters, buffers, and all batches together."""
    given = {f"initial/{name}": Fingerprint.of(value) for name, value in held(start).items()}
    return given | {BATCHES: Fingerprint((len(hashes),), dtype, hashlib.sha256(hashes.tobytes()).hexdigest())}


def drawn(trainer: Adopted, batch: Batch) -> str:
    """The generator whose numbers a step depends on; empty where it depends on none."""
    other = trainer.redrawn()
    if other is None:
        return ""
    start = trainer.read(trainer.init())
    one, two = (_first_step(each, start, batch) for each in (trainer, other))
    return (
        trainer.generator if any(parted(*pair, trainer.dtype) for pair in zip(one, two, strict=True)) else ""
    )


def _first_step(trainer: Adopted, start: Snapshot, batch: Batch) -> Sequence[Array]:
    state, loss = trainer.step(trainer.write(trainer.init(), start), batch)
    return [np.asarray(loss), *trainer.read(state).parameters.values()]
