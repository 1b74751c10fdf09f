"""A trainer in a process of its own: every call goes there and comes back."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import weakref
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import lockstep
from lockstep.backends.adoption import Adopted, AdoptionError, Draw, Narrow
from lockstep.backends.problem import Array, Arrays, Batch, Batches
from lockstep.backends.protocol import NOTHING, Grads, Recording, Scalar, Snapshot, State, Trace
from lockstep.harness.adopt.factories import FactoryResult
from lockstep.harness.adopt.worker import Handle, receive, send

WORKER = Path(lockstep.__file__).parent / "harness" / "adopt" / "interpreter.py"
"""A script, not a module: the other interpreter need not have Lockstep, and must not get the packages that are installed next to ours."""


class Process:
    """The other end: a worker, and one request at a time."""

    def __init__(self, target: str, python: str) -> None:
        self._target, self._freed = target, list[int]()
        try:
            self._process = subprocess.Popen(
                [python, os.fspath(WORKER), target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise AdoptionError(
                f"{target}: its process cannot be started",
                f"{python}: {error.strerror}",
                "name a Python interpreter",
            ) from error
        weakref.finalize(self, _end, self._process)
        self._received()

    def ask(self, method: str, trainer: int, *args: Any) -> Any:
        """The answer of the worker; handles in it are freed there once nobody here holds them.

        Raises:
            AdoptionError: an exception of the worker, or the process is gone.
        """
        assert self._process.stdin is not None
        freed, self._freed[:] = list(self._freed), []
        try:
            send(self._process.stdin, (method, freed, trainer, args))
        except OSError as error:
            raise self._gone() from error
        answer = self._received()
        for one in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(one, Handle):
                weakref.finalize(one, self._freed.append, one.number)
        return answer

    def _received(self) -> Any:
        assert self._process.stdout is not None
        try:
            good, answer = receive(self._process.stdout)
        except EOFError as error:
            raise self._gone() from error
        if not good:
            raise AdoptionError(*answer)
        return answer

    def _gone(self) -> AdoptionError:
        try:
            status = f"exit status {self._process.wait(timeout=5)}"
        except subprocess.TimeoutExpired:
            status = "it no longer answers"
        return AdoptionError(
            f"{self._target}: its process ended",
            status,
            "see what it printed above; it may lack NumPy, or memory",
        )


class Remote:
    """An `Adopted` whose every method is answered by a worker."""

    def __init__(self, process: Process, number: int = 0) -> None:
        self._process, self._number = process, number
        facts = process.ask("facts", number)
        self.name: str = facts["name"]
        self.dtype: str = facts["dtype"]
        self.generator: str = facts["generator"]
        self.capabilities: frozenset[str] = facts["capabilities"]

    def _ask(self, method: str, *args: Any) -> Any:
        return self._process.ask(method, self._number, *args)

    def redrawn(self) -> Adopted | None:
        number = self._ask("redrawn")
        return None if number is None else Remote(self._process, number)

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        answer: tuple[Narrow, ...] = self._ask("narrowed", batch)
        return answer

    def widened(self) -> Adopted:
        return Remote(self._process, self._ask("widened"))

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        answer: tuple[Draw, ...] = self._ask("draws", batch)
        return answer

    def environment(self) -> Mapping[str, str | int | bool]:
        answer: Mapping[str, str | int | bool] = self._ask("environment")
        return answer

    def given(self) -> Arrays:
        answer: Arrays = self._ask("given")
        return answer

    def init(self) -> State:
        return self._ask("init")

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state, loss = self._ask("step", state, batch)
        return state, loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        state, loss, grads = self._ask("gradients", state, batch)
        return state, loss, grads

    def apply(self, state: State, grads: Grads) -> State:
        return self._ask("apply", state, grads)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        answer: Arrays = self._ask("observe", state, batch, tuple(wanted))
        return answer

    def clipped(self, state: State, grads: Grads) -> Arrays:
        return {}

    def predict(self, state: State, x: Array) -> Array:
        answer: Array = self._ask("predict", state, x)
        return answer

    def read(self, state: State) -> Snapshot:
        answer: Snapshot = self._ask("read", state)
        return answer

    def write(self, state: State, snapshot: Snapshot) -> State:
        return self._ask("write", state, snapshot)

    def read_grads(self, grads: Grads) -> Arrays:
        answer: Arrays = self._ask("read_grads", grads)
        return answer

    def write_grads(self, arrays: Arrays) -> Grads:
        return self._ask("write_grads", arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        raise NotImplementedError("it has no capability 'fit'")


def isolated(target: str, python: str | None = None) -> FactoryResult:
    """The trainer that a factory makes in a process of its own, and the batches that came with it.

    Args:
        target: ``module:function``.
        python: the interpreter; by default this one. It needs NumPy and the framework, not Lockstep.

    Raises:
        AdoptionError: it cannot be started, or the factory fails there.
    """
    process = Process(target, python or sys.executable)
    return FactoryResult(Remote(process), _Batches(process) if process.ask("has_batches", 0) else None)


class _Batches:
    """The batches of a worker, fetched one after the other: they need not end."""

    def __init__(self, process: Process) -> None:
        self._process, self._read = process, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        for at in itertools.count():
            if at == len(self._read):
                answer = self._process.ask("next_batch", 0)
                if answer is None:
                    return
                self._read += answer
            yield self._read[at]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker at once: there is nothing to save, and torch takes a second to unload."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
