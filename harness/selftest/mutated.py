"""A trainer with one planted fault: the reference behind hooks, each of which a mutant may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import (
    NOTHING,
    Backend,
    Recording,
    Scalar,
    Snapshot,
    State,
    Trace,
    Trainer,
    Unsupported,
    select,
)
from lockstep.harness.runs.free_run import StepByStep

Turn = Callable[[Arrays, Arrays], Arrays]
"""(gradients of this step, those of the last call or none) -> the gradients that are applied."""


@dataclass(frozen=True)
class Hooks:
    """Where a fault sits; what is None is as it should be.

    Attributes:
        program: the problem that the model, loss and optimizer are built from, instead of the one that is asked for.
        batch: what is made of each batch.
        start: what is made of the state before the first step.
        seen: what the forward and backward pass see of the parameters.
        loss: what is made of the loss, in the report only.
        turn: what is made of the gradients.
        settle: (state before an update, state after it) -> the state that training goes on with.
        read: what is lost or changed when a state is read out.
        run: what `fit` makes of the batches.
        every_epoch: what `fit`, and it alone, makes of the state after each epoch.
    """

    program: Problem | None = None
    batch: Callable[[Batch], Batch] | None = None
    start: Callable[[Snapshot], Snapshot] | None = None
    seen: Callable[[Arrays], Arrays] | None = None
    loss: Callable[[Array], Array] | None = None
    turn: Turn | None = None
    settle: Callable[[Snapshot, Snapshot], Snapshot] | None = None
    read: Callable[[Snapshot], Snapshot] | None = None
    run: Callable[[Batches], Batches] | None = None
    every_epoch: Callable[[Snapshot], Snapshot] | None = None


class MutatedTrainer:
    """The reference's trainer with hooks; a Trainer like any other."""

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state"})

    def __init__(self, reference: Backend, problem: Problem, hooks: Hooks) -> None:
        self._true = reference.trainer(problem)
        self._base: Trainer = reference.trainer(hooks.program) if hooks.program is not None else self._true
        self._hooks = hooks
        self._previous: Arrays = {}

    def given(self) -> Arrays:
        return self._true.given()

    def init(self) -> State:
        state = self._base.init()
        if self._hooks.start is not None:
            state = self._base.write(state, self._hooks.start(self._base.read(state)))
        return state

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Any]:
        before = self._base.read(state)
        seen = self._base.write(state, self._seen(before))
        moved, loss, grads = self._base.gradients(seen, self._batch(batch))
        if self._hooks.seen is not None:
            buffers = self._base.read(moved).buffers
            moved = self._base.write(moved, dataclasses.replace(before, buffers=buffers))
        turned = self._turned(self._base.read_grads(grads))
        return moved, self._loss(np.asarray(loss)), self._base.write_grads(turned)

    def apply(self, state: State, grads: Any) -> State:
        if self._hooks.settle is None:
            return self._base.apply(state, grads)
        before = self._base.read(state)
        after = self._base.apply(state, grads)
        return self._base.write(after, self._hooks.settle(before, self._base.read(after)))

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        snapshot = self._base.read(state)
        seen = self._base.write(self._base.init(), self._seen(snapshot))
        kinds = ("batch", "forward", "loss", "cotangent", "gradient")
        stages = dict(self._base.observe(seen, self._batch(batch), kinds, inject))
        stages["loss"] = self._loss(np.asarray(stages["loss"]))
        if self._hooks.turn is not None:
            names = [name.removeprefix("gradient/") for name in stages if name.startswith("gradient/")]
            grads = {name: stages[f"gradient/{name}"] for name in names}
            stages.update({f"gradient/{name}": value for name, value in self._hooks.turn(grads, {}).items()})
        return select(stages, wanted)

    def clipped(self, state: State, grads: Any) -> Arrays:
        return self._base.clipped(state, grads)

    def predict(self, state: State, x: Array) -> Array:
        return self._base.predict(state, x)

    def read(self, state: State) -> Snapshot:
        snapshot = self._base.read(state)
        return snapshot if self._hooks.read is None else self._hooks.read(snapshot)

    def write(self, state: State, snapshot: Snapshot) -> State:
        return self._base.write(state, snapshot)

    def read_grads(self, grads: Any) -> Arrays:
        return self._base.read_grads(grads)

    def write_grads(self, arrays: Arrays) -> Any:
        return self._base.write_grads(arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        if self._hooks.run is not None:
            batches = self._hooks.run(batches)
        if self._hooks.every_epoch is None:
            return StepByStep(self).fit(state, batches, recording)
        losses = []
        for number, batch in enumerate(batches, start=1):
            state, loss = self.step(state, batch)
            losses.append(np.asarray(loss))
            if number % batches.per_epoch == 0:
                state = self._base.write(state, self._hooks.every_epoch(self._base.read(state)))
        return Trace(np.stack(losses), self.read(state))

    def _seen(self, snapshot: Snapshot) -> Snapshot:
        if self._hooks.seen is None:
            return snapshot
        return dataclasses.replace(snapshot, parameters=self._hooks.seen(snapshot.parameters))

    def _batch(self, batch: Batch) -> Batch:
        return batch if self._hooks.batch is None else self._hooks.batch(batch)

    def _loss(self, loss: Array) -> Array:
        return loss if self._hooks.loss is None else np.asarray(self._hooks.loss(loss), loss.dtype)

    def _turned(self, grads: Arrays) -> Arrays:
        turned = grads if self._hooks.turn is None else self._hooks.turn(grads, self._previous)
        self._previous = grads
        return turned


class Mutated:
    """A backend whose trainers have the fault that `hooks` gives for a problem."""

    name = "mutant"

    def __init__(self, reference: Backend, hooks: Callable[[Problem], Hooks]) -> None:
        self._reference = reference
        self._hooks = hooks

    def supports(self, problem: Problem) -> Unsupported | None:
        return self._reference.supports(problem)

    def trainer(self, problem: Problem) -> MutatedTrainer:
        return MutatedTrainer(self._reference, problem, self._hooks(problem))

    def environment(self) -> Mapping[str, str | int | bool]:
        return self._reference.environment()
