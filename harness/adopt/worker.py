"""The process of one adopted trainer, whose framework may not share an environment with the other's.

``python interpreter.py module:function`` answers requests on its standard input, one after the other; the output of the
user's code goes to standard error. Both ends run the same Lockstep, so pickle is spoken between them.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from typing import IO, Any

import numpy as np

from lockstep.backends.adoption import mapped
from lockstep.backends.errors import LockstepError
from lockstep.harness.adopt.factories import FactoryResult, build

MOST_BYTES = 1 << 40
"""The longest message; a longer one comes from something else that writes there."""

FACTS = ("name", "dtype", "generator", "capabilities")
"""Attributes that the other end asks for once."""


class Worker:
    """A trainer, and the states and gradients that the other end holds handles of."""

    def __init__(self, factory: FactoryResult) -> None:
        self._trainers = {0: factory.trainer}
        self._batches = None if factory.batches is None else iter(factory.batches)
        self._stored: dict[int, Any] = {}
        self._next = 1

    def answer(self, method: str, freed: list[int], trainer: int, args: tuple[Any, ...]) -> Any:
        """The result of a method, states and gradients as handles."""
        for one in freed:
            self._stored.pop(one, None)
        if method == "facts":
            return {name: getattr(self._trainers[trainer], name) for name in FACTS}
        if method == "has_batches":
            return self._batches is not None
        if method == "next_batch":
            # As NumPy: the other end need not have the framework.
            return next(([mapped(np.asarray, one)] for one in self._batches or ()), None)
        bound = getattr(self._trainers[trainer], method)
        result = bound(*(self._stored[one.number] if isinstance(one, Handle) else one for one in args))
        if method in ("redrawn", "widened"):
            return None if result is None else self._another(result)
        if method in ("init", "apply", "write", "write_grads"):
            return self._store(result)
        if method == "step":
            return self._store(result[0]), np.array(result[1])
        if method == "gradients":
            return self._store(result[0]), np.array(result[1]), self._store(result[2])
        return result

    def _store(self, value: Any) -> Handle:
        self._next += 1
        self._stored[self._next] = value
        return Handle(self._next)

    def _another(self, trainer: Any) -> int:
        self._trainers[len(self._trainers)] = trainer
        return len(self._trainers) - 1


class Handle:
    """The number of a state or of gradients that the worker stores."""

    def __init__(self, number: int) -> None:
        self.number = number


def send(stream: IO[bytes], message: Any) -> None:
    """One message: its length, then its pickle."""
    data = pickle.dumps(message, protocol=5)
    stream.write(struct.pack("!Q", len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next message.

    Raises:
        EOFError: the other end is gone, or is no worker.
    """
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    (length,) = struct.unpack("!Q", head)
    if length > MOST_BYTES:
        raise EOFError
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def serialise(error: Exception) -> tuple[str, str, str]:
    """An exception in three parts."""
    if isinstance(error, LockstepError):
        return error.what, error.got, error.fix
    return "the adopted code failed", f"{type(error).__name__}: {error}", "see its output above"


def serve(target: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Make the trainer and answer until the other end is gone."""
    try:
        worker = Worker(build(target))
    except Exception as error:
        send(answers, (False, serialise(error)))
        return
    send(answers, (True, None))
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        try:
            answer = (True, worker.answer(*request))
        except Exception as error:
            answer = (False, serialise(error))
        send(answers, answer)


def main() -> None:
    """Serve on the standard streams: the user's code cannot read requests, and its output is no answer."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    serve(sys.argv[1], requests, answers)
