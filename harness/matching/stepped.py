"""One side of a search: its gradients from its start, with other values in place of some of its parameters and buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Array, Batch
from lockstep.backends.protocol import Snapshot, State
from lockstep.harness.adopt.side import step_of
from lockstep.harness.mapping.mapping import Shapes


class Observed(NamedTuple):
    """Loss and gradients of one step, or for gradients the updates, and by how much the buffers move."""

    loss: float
    gradients: dict[str, Array]
    moved: dict[str, Array]


class Stepped:
    """A trainer with a batch. It has one state, which every step sets anew: a fresh one may be a copy of the whole module.

    Attributes:
        trainer: the adopted code.
        batch: that every step is of.
        start: what it starts from.
        undivided: whether a step of it, or of the other side, cannot be taken apart: updates stand for gradients.
    """

    def __init__(self, trainer: Adopted, batch: Batch, undivided: bool) -> None:
        self.trainer, self.batch, self.undivided = trainer, batch, undivided
        self._state: State = trainer.init()
        self.start: Snapshot = trainer.read(self._state)

    def step(self, values: Mapping[str, Array]) -> Observed:
        """One step's loss and gradients from the start, with these values in place of its own."""
        with step_of(self.trainer):
            parameters, buffers = (
                {name: values.get(name, value) for name, value in one.items()}
                for one in (self.start.parameters, self.start.buffers)
            )
            start = dataclasses.replace(self.start, parameters=parameters, buffers=buffers)
            state = self.trainer.write(self._state, start)
            if self.undivided:
                state, loss = self.trainer.step(state, self.batch)
            else:
                state, loss, grads = self.trainer.gradients(state, self.batch)
            after = self.trainer.read(state)
            moved = {name: value - buffers[name] for name, value in after.buffers.items()}
            gradients = (
                {name: value - parameters[name] for name, value in after.parameters.items()}
                if self.undivided
                else dict(self.trainer.read_grads(grads))
            )
            observed = Observed(float(np.asarray(loss)), gradients, moved)
        self._state = state
        return observed

    @cached_property
    def own(self) -> Observed:
        """One step as it is."""
        return self.step({})

    @property
    def parameters(self) -> Shapes:
        """The shapes of its parameters."""
        return {name: value.shape for name, value in self.start.parameters.items()}

    @property
    def buffers(self) -> Shapes:
        """The shapes of its buffers."""
        return {name: value.shape for name, value in self.start.buffers.items()}
