"""An adopted trainer under the names and in the layouts of another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from lockstep.backends.adoption import AdoptedTrainer
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Grads, Scalar, Snapshot, State
from lockstep.harness.adopt.training import Side, held


class Renamed(AdoptedTrainer):
    """What a side's own trainer does, as the reference would say it; stages of its modules keep their own names.

    Args:
        side: the trainer, and how its names read on the reference's side.
        parameters: what of the reference's arrays are parameters; all others are buffers.
        whole: whether the reference's optimizer has a state of the same form, which can be written here.
    """

    def __init__(self, side: Side, parameters: Collection[str], whole: bool) -> None:
        self._side, self._trainer = side, side.trainer
        self._parameters, self._whole = parameters, whole
        self.capabilities = side.trainer.capabilities - (set() if whole else {"optimizer_state"})

    def init(self) -> State:
        return self._trainer.init()

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        return self._trainer.step(state, batch)

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        return self._trainer.gradients(state, batch)

    def apply(self, state: State, grads: Grads) -> State:
        return self._trainer.apply(state, grads)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        return self._trainer.observe(state, batch, wanted)

    def predict(self, state: State, x: Array) -> Array:
        return self._trainer.predict(state, x)

    def read(self, state: State) -> Snapshot:
        own = self._trainer.read(state)
        told = self._side.canonical(held(own))
        return Snapshot(
            {name: value for name, value in told.items() if name in self._parameters},
            own.optimizer if self._whole else {},
            own.step,
            {name: value for name, value in told.items() if name not in self._parameters},
        )

    def write(self, state: State, snapshot: Snapshot) -> State:
        own = self._trainer.read(state)
        moved = self._side.own(held(snapshot), held(own))
        return self._trainer.write(
            state,
            dataclasses.replace(
                own,
                parameters={name: moved[name] for name in own.parameters},
                buffers={name: moved[name] for name in own.buffers if name in moved},
                optimizer=snapshot.optimizer if self._whole else {},
                step=snapshot.step,
            ),
        )

    def read_grads(self, grads: Grads) -> Arrays:
        return self._side.canonical(self._trainer.read_grads(grads))

    def write_grads(self, arrays: Arrays) -> Grads:
        like = self._side.start.parameters
        own = self._side.own(arrays, like)
        return self._trainer.write_grads({name: own[name] for name in like})
