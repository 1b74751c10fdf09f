"""Backends side by side: one fresh process each, so that their imports and their training overlap."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

import backends
from backends.errors import BackendUnavailableError
from backends.problem import Problem
from backends.protocol import Backend
from harness.compare import Run
from harness.run import describe, free_run
from harness.verdict import Verdict

Chosen = str | Backend
"""A backend by its registered name, or the backend itself."""

Trainers = Callable[[Sequence[Chosen], Sequence[Problem]], Iterator[Run]]
"""How runs are made: all problems on all backends, in any order."""


def name_of(backend: Chosen) -> str:
    """What reports call it."""
    return backend if isinstance(backend, str) else backend.name


def run_one(backend: Chosen, problem: Problem) -> Run:
    """One free run; SKIPPED, with the install command, where the backend's framework is absent."""
    try:
        loaded = backends.load(backend) if isinstance(backend, str) else backend
    except BackendUnavailableError as error:
        return Run(problem.name, problem.dtype, name_of(backend), Verdict.SKIPPED, error.got, error.fix)
    except Exception as error:  # a third party's constructor may raise anything
        return Run(problem.name, problem.dtype, name_of(backend), Verdict.ERROR, describe(error))
    return free_run(loaded, problem)


def in_process(chosen: Sequence[Chosen], problems: Sequence[Problem]) -> Iterator[Run]:
    """One run after the other, here: simple, and right for few runs or for backends made by hand."""
    for backend in chosen:
        for problem in problems:
            yield run_one(backend, problem)


def side_by_side(chosen: Sequence[Chosen], problems: Sequence[Problem]) -> Iterator[Run]:
    """One worker process a backend, each doing its problems in turn; runs come as they finish.

    The processes are spawned: after jax or torch was imported, a fork can hang.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        waiting: dict[Future[Run], tuple[Chosen, Problem]] = {}
        for backend in chosen:
            pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=context))
            waiting.update(
                {pool.submit(run_one, backend, problem): (backend, problem) for problem in problems}
            )
        for future in as_completed(waiting):
            try:
                yield future.result()
            except BrokenProcessPool:
                backend, problem = waiting[future]
                reason = "its process died (killed, out of memory, or crashed in native code)"
                yield Run(problem.name, problem.dtype, name_of(backend), Verdict.ERROR, reason)
