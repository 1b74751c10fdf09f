"""An optimizer alone as a trainer: the gradients of every step are given, so no rounding returns through a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import AdoptedTrainer, OptimizerSide
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Grads, Recording, Scalar, Snapshot, State, Trainer
from lockstep.harness.conformance.optimizers.sequences import GradientSequence
from lockstep.harness.runs.free_run import StepByStep

RECORDED = Recording(parameters=True)


class OpenLoop(AdoptedTrainer):
    """Step t trains the linear loss Lₜ(w) = Σ gₜ · w, whose gradient is gₜ wherever w is.

    The optimizer's state stays in its own framework: `write` sets the parameters alone.

    Args:
        side: the optimizer.
        start: parameters before the first update, by name.
    """

    capabilities = frozenset[str]()

    def __init__(self, side: OptimizerSide, start: Arrays) -> None:
        self._side, self._start = side, start
        self._last: tuple[State, Snapshot] | None = None

    def init(self) -> State:
        return self._side.begin(self._start)

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        arrays: Arrays = batch.x  # see `GradientSequence`
        parameters = self.read(state).parameters
        loss = sum(np.sum(value * parameters[name]) for name, value in arrays.items())
        return state, loss, self.write_grads(arrays)

    def apply(self, state: State, grads: Grads) -> State:
        self._last = None
        return self._side.update(state, grads)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        raise NotImplementedError("it has no capability 'stages'")

    def predict(self, state: State, x: Array) -> Array:
        raise NotImplementedError("it has no model")

    def read(self, state: State) -> Snapshot:
        """A copy; that of a state which has not moved since is the same one."""
        if self._last is None or self._last[0] is not state:
            self._last = state, self._side.read(state)
        return self._last[1]

    def write(self, state: State, snapshot: Snapshot) -> State:
        self._last = None
        return self._side.write(state, snapshot.parameters)

    def read_grads(self, grads: Grads) -> Arrays:
        return self._side.read_grads(grads)

    def write_grads(self, arrays: Arrays) -> Grads:
        return self._side.write_grads(arrays)


@dataclass(frozen=True)
class OptimizerAlone:
    """An optimizer as an implementation; what it trains is a gradient sequence.

    Attributes:
        name: what reports call it.
        side: the optimizer.
    """

    name: str
    side: OptimizerSide

    def supports(self, spec: GradientSequence, /) -> None:
        """None: it updates the parameters, or raises."""

    def trainer(self, spec: GradientSequence, /) -> OpenLoop:
        """A trainer from the sequence's start."""
        return OpenLoop(self.side, spec.start)

    def environment(self) -> Mapping[str, str | int | bool]:
        """Nothing is known of it."""
        return {}


def parameters_of(sequence: GradientSequence, trainer: Trainer) -> Arrays:
    """A run's parameters, (updates + 1, ...) each: before the first update and after every one."""
    recorded = StepByStep(trainer).fit(trainer.init(), sequence.batches(), RECORDED).parameters
    assert recorded is not None
    return recorded
