"""A trainer under an intervention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from lockstep.backends.problem import Array, Arrays, Batch, Batches
from lockstep.backends.protocol import (
    NOTHING,
    UNDIVIDED,
    Grads,
    Recording,
    Scalar,
    Snapshot,
    State,
    Trace,
    Trainer,
    select,
)
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.intervention import Intervention, StepContext


class Altered:
    """A trainer under an intervention; a Trainer like any other.

    Args:
        trainer: the trainer of the intervention's spec, or of the spec itself where the intervention has none.
        intervention: the change.
        inputs: the trainer whose `given` is reported; by default the trainer itself.
    """

    def __init__(self, trainer: Trainer, intervention: Intervention, inputs: Trainer | None = None) -> None:
        self._trainer, self._change = trainer, intervention
        self._inputs = inputs or trainer
        self._previous: Arrays = {}
        self.capabilities = trainer.capabilities - {"twins"}

    def given(self) -> Arrays:
        return self._inputs.given()

    def init(self) -> State:
        state = self._trainer.init()
        if self._change.ahead:
            state = _counted_ahead(self._trainer, state, self._change.ahead)
        if self._change.on_start is not None:
            state = self._trainer.write(state, self._change.on_start(self._trainer.read(state)))
        return state

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        if UNDIVIDED in self.capabilities:
            return self._undivided_step(state, batch)
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def _undivided_step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        """A step that has no halves, with changes before and after it."""
        change, trainer = self._change, self._trainer
        if change.on_forward or change.on_gradients:
            raise NotImplementedError("its step cannot be taken apart")
        changes = [one for one in (change.on_buffers, change.on_update) if one is not None]
        before = trainer.read(state) if changes else None
        state, loss = trainer.step(state, self._batch(batch))
        if before is not None:
            after = trainer.read(state)
            for one in changes:
                after = one(before, after)
            state = trainer.write(state, after)
        return state, self._loss(loss)

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        change, trainer = self._change, self._trainer
        needs_before = change.on_forward or change.on_buffers or change.on_gradients
        before = trainer.read(state) if needs_before else None
        if before is not None and change.on_forward is not None:
            state = trainer.write(state, _with_parameters(before, change.on_forward))
        state, loss, grads = trainer.gradients(state, self._batch(batch))
        if before is not None and (change.on_forward or change.on_buffers):
            state = trainer.write(state, self._after_forward(before, trainer.read(state)))
        if before is not None and change.on_gradients is not None:
            own = trainer.read_grads(grads)
            grads = trainer.write_grads(change.on_gradients(own, StepContext(before, self._previous)))
            self._previous = own
        return state, self._loss(loss), grads

    def apply(self, state: State, grads: Grads) -> State:
        if self._change.on_update is None:
            return self._trainer.apply(state, grads)
        before = self._trainer.read(state)
        state = self._trainer.apply(state, grads)
        return self._trainer.write(state, self._change.on_update(before, self._trainer.read(state)))

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        change, trainer = self._change, self._trainer
        before = trainer.read(state)
        if change.on_forward is not None:
            state = trainer.write(trainer.init(), _with_parameters(before, change.on_forward))
        kinds = ("batch", "forward", "loss", "cotangent", "gradient")
        stages = dict(trainer.observe(state, self._batch(batch), kinds, inject))
        if "loss" in stages:
            stages["loss"] = self._loss(stages["loss"])
        own = {
            name.removeprefix("gradient/"): value
            for name, value in stages.items()
            if name.startswith("gradient/")
        }
        if change.on_gradients is not None and own:
            changed = change.on_gradients(own, StepContext(before))
            stages |= {f"gradient/{name}": value for name, value in changed.items()}
        return select(stages, wanted)

    def clipped(self, state: State, grads: Grads) -> Arrays:
        return self._trainer.clipped(state, grads)

    def predict(self, state: State, x: Array) -> Array:
        return self._trainer.predict(state, x)

    def read(self, state: State) -> Snapshot:
        snapshot = self._trainer.read(state)
        return snapshot if self._change.on_read is None else self._change.on_read(snapshot)

    def write(self, state: State, snapshot: Snapshot) -> State:
        return self._trainer.write(state, snapshot)

    def read_grads(self, grads: Grads) -> Arrays:
        return self._trainer.read_grads(grads)

    def write_grads(self, arrays: Arrays) -> Grads:
        return self._trainer.write_grads(arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        change = self._change
        if change.on_run is not None:
            batches = change.on_run(batches)
        if change.on_epoch is None:
            return StepByStep(self).fit(state, batches, recording)
        losses = []
        for number, batch in enumerate(batches, start=1):
            state, loss = self.step(state, batch)
            losses.append(np.asarray(loss))
            if number % batches.per_epoch == 0:
                state = self._trainer.write(state, change.on_epoch(self._trainer.read(state)))
        return Trace(np.stack(losses), self.read(state))

    def _batch(self, batch: Batch) -> Batch:
        return batch if self._change.on_batch is None else self._change.on_batch(batch)

    def _loss(self, loss: Any) -> Any:
        if self._change.on_loss is None:
            return loss
        value = np.asarray(loss)
        return np.asarray(self._change.on_loss(value), value.dtype)

    def _after_forward(self, before: Snapshot, after: Snapshot) -> Snapshot:
        """The true parameters again, and other buffers."""
        after = dataclasses.replace(before, buffers=after.buffers, extra=after.extra)
        return after if self._change.on_buffers is None else self._change.on_buffers(before, after)


def _with_parameters(snapshot: Snapshot, change: Callable[[Arrays], Arrays]) -> Snapshot:
    return dataclasses.replace(snapshot, parameters=change(snapshot.parameters))


def _counted_ahead(trainer: Trainer, state: State, times: int) -> State:
    """A state whose optimizer counts so many batches too many: zero gradients, from zeros, so that a decay moves nothing, either."""
    start = trainer.read(state)
    zeros = {name: np.zeros_like(value) for name, value in start.parameters.items()}
    state = trainer.write(state, dataclasses.replace(start, parameters=zeros))
    for _ in range(times):
        state = trainer.apply(state, trainer.write_grads(zeros))
    after = trainer.read(state)
    return trainer.write(state, dataclasses.replace(start, step=after.step, optimizer=after.optimizer))
