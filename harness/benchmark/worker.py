"""The work of a process that is timed: one backend and one problem, from the import to finished runs.

``python -m lockstep.harness.benchmark.worker`` reads its job from stdin and writes what it measured to stdout, as JSON. It is pinned
before any large package is imported.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

MOST_RUNS = 100
FEWEST_RUNS = 3
PATIENCE = 10
"""A single run that takes this many times a process's share of seconds is not repeated."""


def main() -> None:
    """Do the job on stdin: ``started``, ``cpus``, the function to call, and its arguments, pickled."""
    job = pickle.load(sys.stdin.buffer)
    output = os.dup(1)
    os.dup2(2, 1)  # what a framework prints must not mix with the answer
    if job["cpus"]:
        os.sched_setaffinity(0, job["cpus"])
    from lockstep.harness.benchmark import worker

    answer = getattr(worker, job["call"])(job["started"], *pickle.loads(job["arguments"]))
    with os.fdopen(output, "w", encoding="utf-8") as file:
        json.dump(answer, file)
    sys.stdout.flush()
    os._exit(0)  # without the second that torch takes to unload


def train(started: float, backend: str, problem: Any, seconds: float) -> dict[str, Any]:
    """Train `problem` on `backend` again and again: the fields of a `Sample`.

    Args:
        started: when this process was asked for, by the monotonic clock.
        backend: its registered name.
        problem: a Problem.
        seconds: for how long to repeat.
    """
    from lockstep.backends import load
    from lockstep.harness.benchmark import memory

    read = time.monotonic()
    loaded = load(backend)
    imported = time.monotonic()
    before = memory.resident()
    memory.forget_peak()
    run = Runner(loaded, problem)
    built = time.monotonic()
    run()
    first = time.monotonic()
    runs = repeated(run, seconds)
    environment = {**loaded.environment(), **_pinned()}
    return {
        "started": read - started,
        "imported": imported - read,
        "built": built - imported,
        "first": first - built,
        "runs": runs,
        "result": first - started,
        "before_bytes": before,
        "peak_bytes": memory.peak(),
        "device_bytes": environment.pop("device_peak_bytes", None),
        "losses": run.losses,
        "environment": environment,
    }


def _pinned() -> dict[str, int]:
    """The number of processors that this process is pinned to, where the system reports it."""
    return {"processors": len(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity") else {}


class Runner:
    """Called, it trains from the start and waits for losses and parameters; `losses` is then the SHA-256 of the losses."""

    def __init__(self, backend: Any, problem: Any) -> None:
        from lockstep.harness.runs.free_run import fit_of

        self._trainer, self._batches = backend.trainer(problem), problem.batches()
        self._fit = fit_of(self._trainer)
        self._trace: Any = None

    def __call__(self) -> None:
        import numpy as np

        from lockstep.backends.protocol import LOSSES_ONLY

        with np.errstate(over="ignore", invalid="ignore"):
            # NumPy arrays on the host: nothing is still being computed once they are there.
            self._trace = self._fit(self._trainer.init(), self._batches, LOSSES_ONLY)

    @property
    def losses(self) -> str:
        import hashlib

        import numpy as np

        return hashlib.sha256(np.ascontiguousarray(self._trace.losses).data).hexdigest()


def repeated(
    run: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of each run: FEWEST_RUNS at least, then as many as fit into `seconds`; one, if it takes PATIENCE times that."""
    runs: list[float] = []
    while len(runs) < MOST_RUNS:
        begun = clock()
        run()
        runs.append(clock() - begun)
        if sum(runs) >= PATIENCE * seconds or (len(runs) >= FEWEST_RUNS and sum(runs) >= seconds):
            break
    return runs


def probe(started: float, sizes: list[int], dtypes: list[str], threads: int) -> dict[str, Any]:
    """The best rates of the machine: ``copy``, bytes a second by bytes of data; ``matmul``, flops a second by dtype."""
    from lockstep.harness.benchmark import probes

    return {
        "copy": [[size, probes.copy_rate(size, threads)] for size in sizes],
        "matmul": [[dtype, probes.matmul_rate(dtype)] for dtype in dtypes],
    }


if __name__ == "__main__":
    main()
