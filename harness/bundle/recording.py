"""Recording: train here, and write to one file what another version, machine or backend can be compared with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lockstep import backends as registry
from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import DTYPES, Problem
from lockstep.backends.protocol import Backend, Snapshot
from lockstep.harness import bundle
from lockstep.harness.adopt.implementation import implementations
from lockstep.harness.adopt.randomness import check_repeats, drawn, refuse_random
from lockstep.harness.adopt.side import sides_of
from lockstep.harness.adopt.task import task_of
from lockstep.harness.bundle import Bundle, BundleError, Recorded, RecordedProblem, RecordedTask
from lockstep.harness.bundle.hashes import BATCHES, fingerprint_of, fingerprint_of_hashes, hashes_of
from lockstep.harness.bundle.record_run import record_run
from lockstep.harness.bundle.size import check_size, check_size_of_code
from lockstep.harness.core.compare import Fingerprint, Run
from lockstep.harness.core.ledger import INPUTS
from lockstep.harness.documents.files import writable_folder
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems.document import describe
from lockstep.harness.runs.recorder import recorded_steps
from lockstep.harness.runs.workers import Chosen
from lockstep.harness.verification.parity import Wanted, distinct_backends, distinct_problems

MAX_SIZE = 64_000_000
"""Bytes of a bundle, by default."""

MACHINE = ("platform", "cpu", "cores", "blas", "thread_variables", "git_commit")
"""What a manifest says of the machine and the checkout."""

OF_PROBLEMS = frozenset(INPUTS) - {"batch"}
"""Kinds of stage that are recorded of problems; all batches are known by one hash."""

OF_CODE = frozenset({"state", "forward", "loss", "gradient", "buffers", "update"})
"""Kinds of stage that are recorded of a user's own code; each batch is known by its hash."""

UNNAMED: dict[str, str | bool] = {"version": "unknown", "reduced_precision": False}
"""What every recorded run says of its environment."""


def record(
    out: str | Path,
    problems: Wanted | Iterable[Wanted],
    *,
    backends: Iterable[Chosen] | None = None,
    dtypes: Iterable[str] = DTYPES,
    epochs: int | None = None,
    parameters_at: Iterable[int | str] = (),
    stages_at: Iterable[int | str] = (),
    data: bool = True,
    machine: bool = True,
    max_size: int = MAX_SIZE,
    progress: Callable[[Run], None] = lambda run: None,
) -> Bundle:
    """Train, and write what is needed to train the same elsewhere and compare.

    Every loss and the whole last state are recorded; anything larger only at the steps that are named.

    Args:
        out: the file to write.
        problems: one or several: a Problem, a name of the catalogue, or the path of a problem file.
        backends: registered names or backends; by default all that are registered.
        dtypes: ``float64`` and ``float32`` by default.
        epochs: instead of each problem's own.
        parameters_at: after how many steps every parameter is recorded; 0 for the initial ones, ``last`` for the end.
        stages_at: of which steps, from 0, every stage is recorded, with the state that it started from; ``last`` for the last.
        data: whether data and initial parameters are recorded, or only their hashes.
        machine: whether the environment says more than versions.
        max_size: bytes that the file may take; looked at before the training, and again before it is written.
        progress: called with each run as it finishes.

    Raises:
        LockstepError: a name, a problem or a step is not valid, a backend cannot train a problem, or the bundle would be
            too large. Nothing was written.
    """
    writable_folder(Path(out).absolute().parent)
    loaded = [registry.load(one) if isinstance(one, str) else one for one in distinct_backends(backends)]
    wanted = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    chosen = [_shortened(one, epochs) for one in distinct_problems(wanted)]
    types = list(dict.fromkeys(dtypes))
    cases = [(index, one.replace(dtype=dtype)) for index, one in enumerate(chosen) for dtype in types]
    steps = {one.name: recorded_steps(one, parameters_at, stages_at) for one in chosen}
    _check_support(loaded, [problem for _, problem in cases])
    check_size(chosen, [one for _, one in cases], steps, len(loaded), data, max_size)
    runs = []
    for (index, problem), backend in itertools.product(cases, loaded):
        one = record_run(backend, problem, steps[problem.name], OF_PROBLEMS, "leave one of them out")
        runs.append(dataclasses.replace(_with_batches(one, fingerprint_of(problem)), problem=index))
        progress(runs[-1].run)
    described_problems = tuple(
        RecordedProblem(describe(one), one.replace(dtype=DTYPES[0]) if data else None) for one in chosen
    )
    result = Bundle(environment_of(runs, machine), described_problems, tuple(runs))
    bundle.save(out, result, max_size)
    return result


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

    Recorded are the hash of every batch, every loss, the parameters and buffers at both ends, and what is named on the way; not
    the code, and not the batches.

    Args:
        out: the file to write.
        trainer: what ``adopt`` of a backend gives.
        batches: pairs (x, y), one a step; read once.
        steps: how many; by default as many as there are batches, which are begun again where there are fewer.
        parameters_at: after how many steps every parameter is recorded; ``last`` for the end.
        stages_at: of which steps, from 0, every stage is recorded, with the state that it started from; ``last`` for the last.
        data: whether the parameters and buffers at the start are recorded, or only their hashes.
        machine: whether the environment says more than versions.
        max_size: bytes that the file may take; looked at before the training, and again before it is written.
        name: what reports call it.

    Raises:
        LockstepError: there is no batch, a step is not valid, the code draws random numbers or fails, or the bundle would be
            too large. Nothing was written.
    """
    writable_folder(Path(out).absolute().parent)
    task = task_of([trainer], batches, steps, name)
    chosen = recorded_steps(task, parameters_at, stages_at)
    refuse_random(trainer, task.data[0])
    (side,) = sides_of([trainer.name], [trainer], [])
    (code,) = implementations([check_repeats(side, task)])  # it then knows what the optimizer keeps
    check_size_of_code(code.trainer(task), task, chosen, OF_CODE, data, max_size)
    hashes = hashes_of(task)
    one = record_run(code, task, chosen, OF_CODE, "see that it trains without Lockstep")
    one = _of_code(_with_batches(one, fingerprint_of_hashes(hashes, task.dtype)))
    start = Snapshot(side.start.parameters, buffers=side.start.buffers, extra=side.start.counts)
    generator = drawn(trainer, side.start, task.data[0])
    described_task = RecordedTask(task.name, task.dtype, hashes, start if data else None, generator)
    result = Bundle(environment_of([one], machine), (), (one,), described_task)
    bundle.save(out, result, max_size)
    return result


def _with_batches(one: Recorded, batches: Fingerprint) -> Recorded:
    """The run with the fingerprint of its batches."""
    return dataclasses.replace(
        one, run=dataclasses.replace(one.run, given={**one.run.given, BATCHES: batches})
    )


def _of_code(one: Recorded) -> Recorded:
    """A run of a user's own code: it has no `fit`; of the last state what every framework has."""
    trace = one.run.trace
    assert trace is not None
    trace = dataclasses.replace(
        trace, final=dataclasses.replace(trace.final, optimizer={}, extra=trace.final.counts)
    )
    environment = {**UNNAMED, **one.run.environment}
    return dataclasses.replace(
        one, run=dataclasses.replace(one.run, trace=trace, environment=environment), stepwise=True
    )


def _shortened(problem: Problem, epochs: int | None) -> Problem:
    return problem if epochs is None else problem.replace(epochs=epochs)


def _check_support(chosen: Sequence[Backend], problems: Iterable[Problem]) -> None:
    for problem, backend in itertools.product(problems, chosen):
        if refusal := backend.supports(problem):
            raise BundleError(
                f"{backend.name} cannot train {problem.name} {problem.dtype}",
                refusal.reason,
                "leave one of them out",
            )


def environment_of(runs: Iterable[Recorded], machine: bool) -> dict[str, Any]:
    """Where runs were recorded: versions, and the machine unless that is not wanted."""
    here = {key: value for key, value in manifest().items() if machine or key not in MACHINE}
    return {**here, "backends": {one.run.backend: dict(one.run.environment) for one in runs}}
