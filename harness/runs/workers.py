"""Workers: backends that train one after the other in this process, and the work of a process of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import TypeVar

from lockstep import backends
from lockstep.backends.errors import BackendUnavailableError
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Backend, Trainer
from lockstep.harness.core.compare import Run
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import RAISED, Fit, describe, fit_of, free_run
from lockstep.harness.runs.implementation import Implementation

Result = TypeVar("Result")

Chosen = str | Backend
"""A backend by its registered name, or the backend itself."""

Trainers = Callable[[Sequence[Chosen], Sequence[Problem]], Iterator[Run]]
"""Trains all problems on all backends, in any order."""


def name_of(backend: str | Implementation) -> str:
    """Its name in reports."""
    return backend if isinstance(backend, str) else backend.name


def run_one(backend: str | Implementation, problem: RunSpec, fit: Callable[[Trainer], Fit] = fit_of) -> Run:
    """One free run; SKIPPED, with the install command, where the backend's framework is absent.

    Args:
        backend: who trains: a registered backend's name, or an implementation.
        problem: the run.
        fit: how a trainer trains the whole run.
    """
    loaded: Implementation
    try:
        loaded = backends.load(backend) if isinstance(backend, str) else backend
    except BackendUnavailableError as error:
        return Run(problem.name, problem.dtype, name_of(backend), Verdict.SKIPPED, error.got, error.fix)
    except RAISED as error:  # a third party's constructor may raise anything
        return Run(problem.name, problem.dtype, name_of(backend), Verdict.ERROR, describe(error))
    return free_run(loaded, problem, fit=fit)


def in_process(chosen: Sequence[Chosen], problems: Sequence[Problem]) -> Iterator[Run]:
    """One run after the other, here: simple, and right for few runs or for unregistered backends."""
    for backend in chosen:
        for problem in problems:
            yield run_one(backend, problem)


def in_background(work: Callable[[], Result]) -> Callable[[], Result]:
    """Begin `work` in a thread of its own; the returned function waits for its result, or raises its exception.

    A process that ends, by an interrupt say, does not wait for it.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result


def trained(waiting: Mapping[Connection, Chosen], problems: Sequence[Problem]) -> Iterator[Run]:
    """The runs of all problems in the processes that wait for them, as they finish.

    Args:
        waiting: the backend of each process, by its end of the pipe.
        problems: each process trains all of them, in turn.
    """
    working = {pipe: (backend, list(problems)) for pipe, backend in waiting.items()}
    for pipe in working:
        in_background(
            partial(pipe.send, problems)
        )  # a process that still imports would keep the others waiting
    while working:
        for ready in wait(list(working)):
            assert isinstance(ready, Connection)
            yield from _received(ready, working)


def serve(pipe: Connection, backend: Chosen) -> None:
    """The work of a worker: it sends its runs and ends at once, without the second that torch takes to unload."""
    for problem in pipe.recv():
        pipe.send(run_one(backend, problem))
    pipe.close()
    os._exit(0)


def _received(ready: Connection, working: dict[Connection, tuple[Chosen, list[Problem]]]) -> Iterator[Run]:
    """The next run from a worker; if it died, an error for each problem that it still had to do."""
    backend, remaining = working[ready]
    try:
        yield ready.recv()
        remaining.pop(0)
    except EOFError:
        reason = "its process died (killed, out of memory, or crashed in native code)"
        for problem in remaining:
            yield Run(problem.name, problem.dtype, name_of(backend), Verdict.ERROR, reason)
        remaining.clear()
    if not remaining:
        del working[ready]
        ready.close()
