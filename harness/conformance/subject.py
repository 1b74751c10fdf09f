"""What a check is made on: one backend and one problem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lockstep import backends
from lockstep.backends.problem import Batch, Problem
from lockstep.backends.protocol import Backend, State, Trainer
from lockstep.harness.runs.free_run import RAISED


@dataclass(frozen=True)
class Subject:
    """One backend and one problem, in its dtype.

    Attributes:
        backend: who is checked.
        problem: on what.
    """

    backend: Backend
    problem: Problem

    @cached_property
    def trainer(self) -> Trainer:
        """A trainer that checks share: all that moves is in its states, and compiling is done once."""
        return self.fresh()

    @property
    def capabilities(self) -> frozenset[str]:
        """What the trainer claims; nothing where it cannot be asked, which a check of its own finds."""
        try:
            return frozenset(self.trainer.capabilities)
        except RAISED:  # whatever a backend raises
            return frozenset()

    def fresh(self) -> Trainer:
        """A trainer of its own."""
        return self.backend.trainer(self.problem)

    @property
    def batch(self) -> Batch:
        """The first batch; fresh arrays on every call."""
        return next(iter(self.problem.batches()))

    @property
    def reference(self) -> Trainer:
        """The reference's trainer of the same problem."""
        return backends.load(backends.REFERENCE).trainer(self.problem)

    @property
    def close(self) -> float:
        """Room for another order of a few dozen operations, relative to the largest magnitude."""
        return 64 * self.eps

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number of the problem's dtype."""
        return {"float32": 2.0**-23, "float64": 2.0**-52}[self.problem.dtype]


def advance(trainer: Trainer, state: State, batch: Batch, steps: int) -> State:
    """The state after some steps on one batch."""
    for _ in range(steps):
        state, _ = trainer.step(state, batch)
    return state
