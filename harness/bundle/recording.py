"""Recording: train here, and keep in one file what another version, machine or backend can be compared with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lockstep import backends as registry
from lockstep.backends.problem import DTYPES, Problem
from lockstep.backends.protocol import Backend
from lockstep.harness import bundle
from lockstep.harness.bundle import Bundle, BundleError, Kept, Recorded
from lockstep.harness.bundle.size import check_size
from lockstep.harness.core.compare import Run
from lockstep.harness.documents.files import writable_folder
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems.document import describe
from lockstep.harness.runs.recorder import moments_of, train
from lockstep.harness.runs.workers import Chosen
from lockstep.harness.verification.parity import Wanted, distinct_backends, distinct_problems

MAX_SIZE = 64_000_000
"""Bytes of a bundle, where nothing else is said."""

MACHINE = ("platform", "cpu", "cores", "blas", "thread_variables", "git_commit")
"""What a manifest says of the machine and the checkout."""


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

    Every loss and the whole last state are kept; anything larger only at the moments that are asked for.

    Args:
        out: the file to write.
        problems: one or several: a Problem, a name of the catalogue, or the path of a problem file.
        backends: registered names or backends; by default all that are registered.
        dtypes: ``float64`` and ``float32`` by default.
        epochs: instead of each problem's own.
        parameters_at: after how many steps every parameter is kept; 0 for the initial ones, ``last`` for the end.
        stages_at: of which steps, from 0, every stage is kept, with the state that it started from; ``last`` for the last.
        data: whether data and initial parameters are kept, or only their hashes.
        machine: whether the environment says more than versions.
        max_size: bytes that the file may take; looked at before the training, and again before it is written.
        progress: called with each run as it finishes.

    Raises:
        LockstepError: a name, a problem or a moment is not valid, a backend cannot train a problem, or the bundle would be
            too large. Nothing was written.
    """
    writable_folder(Path(out).absolute().parent)
    loaded = [registry.load(one) if isinstance(one, str) else one for one in distinct_backends(backends)]
    wanted = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    chosen = [_shortened(one, epochs) for one in distinct_problems(wanted)]
    types = list(dict.fromkeys(dtypes))
    cases = [(index, one.replace(dtype=dtype)) for index, one in enumerate(chosen) for dtype in types]
    moments = {one.name: moments_of(one, parameters_at, stages_at) for one in chosen}
    _check_support(loaded, [problem for _, problem in cases])
    check_size(chosen, [one for _, one in cases], moments, len(loaded), data, max_size)
    runs = []
    for (index, problem), backend in itertools.product(cases, loaded):
        runs.append(train(backend, problem, index, moments[problem.name]))
        progress(runs[-1].run)
    kept = tuple(Kept(describe(one), one.replace(dtype=DTYPES[0]) if data else None) for one in chosen)
    made = Bundle(environment_of(runs, machine), kept, tuple(runs))
    bundle.save(out, made, max_size)
    return made


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
    told = {key: value for key, value in manifest().items() if machine or key not in MACHINE}
    return {**told, "backends": {one.run.backend: dict(one.run.environment) for one in runs}}
