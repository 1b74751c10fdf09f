"""A fresh process for one measurement."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from typing import Any

from lockstep.backends.problem import Problem
from lockstep.harness.benchmark.machine import Pinned
from lockstep.harness.benchmark.sample import Failure, Sample

COMMAND = (sys.executable, "-P", "-m", "lockstep.harness.benchmark.worker")


def measure(
    backend: str, problem: Problem, seconds: float, pinned: Pinned, timeout: float | None = None
) -> Sample | Failure:
    """One repetition of one backend, or why there is none.

    Args:
        backend: its registered name.
        problem: what it trains.
        seconds: for how long to repeat the run within the process.
        pinned: threads and processors.
        timeout: seconds after which the process is ended.
    """
    answer = launched("train", (backend, problem, seconds), pinned, timeout)
    return answer if isinstance(answer, Failure) else Sample(**{**answer, "runs": tuple(answer["runs"])})


def probe(sizes: list[int], dtypes: list[str], pinned: Pinned) -> dict[str, Any] | Failure:
    """The best rates of the machine, as `worker.probe` returns them."""
    return launched("probe", (sizes, dtypes, pinned.threads), pinned, None)


def launched(
    call: str, arguments: tuple[Any, ...], pinned: Pinned, timeout: float | None
) -> dict[str, Any] | Failure:
    """The answer of a function of `lockstep.harness.benchmark.worker` in a process of its own."""
    job = {
        "call": call,
        "arguments": pickle.dumps(arguments),
        "cpus": pinned.cpus,
        "started": time.monotonic(),
    }
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=pinned.environment(os.environ),
        start_new_session=True,  # an interrupt is ours to handle
    ) as process:
        try:
            out, errors = process.communicate(pickle.dumps(job), timeout)
        except subprocess.TimeoutExpired:
            return Failure(f"it was ended after {timeout:.0f} s")
        finally:
            process.kill()
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        return Failure(f"its process ended with {process.returncode}: {last[0]}")
    answer: dict[str, Any] = json.loads(out)
    return answer
