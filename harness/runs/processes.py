"""Backends in processes of their own, which are started ahead of the problems.

Their imports, a framework each, overlap with the imports and preparations of this process: so this module imports little.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from typing import TYPE_CHECKING

from lockstep import backends

if TYPE_CHECKING:
    from lockstep.backends.problem import Problem
    from lockstep.harness.core.compare import Run
    from lockstep.harness.runs.workers import Chosen, Trainers

UNCOLLECTED = 50_000
"""How many new objects a worker lets come before it looks for garbage (Python's own: 700). A framework's import makes
hundreds of thousands and leaves none; to look among them took a fifth of its time."""


@contextmanager
def ahead(chosen: Sequence[Chosen]) -> Iterator[Trainers]:
    """One process a backend, which loads it and waits for problems; the result trains them there, once.

    The processes end with the context. They are spawned: after jax or torch was imported, a fork can hang.
    """
    context = multiprocessing.get_context("spawn")
    waiting: dict[Connection, Chosen] = {}
    processes = []
    try:
        for backend in chosen:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, backend), daemon=True)
            with _interrupts_blocked():
                process.start()
            theirs.close()
            processes.append(process)
            waiting[ours] = backend
        yield partial(_trained, waiting)
    finally:
        for process in processes:
            process.kill()
            process.join()


def side_by_side(chosen: Sequence[Chosen], problems: Sequence[Problem]) -> Iterator[Run]:
    """One worker process a backend, each doing its problems in turn; runs come as they finish."""
    with ahead(chosen) as trainers:
        yield from trainers(chosen, problems)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that start meanwhile ignore interrupts: this process ends them, without their tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ensure_running()  # the first process that is spawned would start it, and that lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, backend: Chosen) -> None:
    """The work of a process."""
    gc.set_threshold(UNCOLLECTED)
    if isinstance(backend, str):
        with suppress(
            Exception, SystemExit
        ):  # it is reported when the backend is loaded for its first problem
            backends.load(backend)
    from lockstep.harness.runs.workers import serve

    serve(pipe, backend)


def _trained(
    waiting: dict[Connection, Chosen], chosen: Sequence[Chosen], problems: Sequence[Problem]
) -> Iterator[Run]:
    from lockstep.harness.runs.workers import trained

    assert list(waiting.values()) == list(chosen)
    return trained(waiting, problems)
