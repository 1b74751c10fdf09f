"""An adopted trainer under the reference's names and in its layouts: to the harness it is a trainer like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.adoption import AdoptedTrainer
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, UNDIVIDED, Grads, Scalar, Snapshot, State
from lockstep.harness.adopt.extra import labelled, own_extra
from lockstep.harness.adopt.side import Side, forms, held, shapes_of
from lockstep.harness.adopt.state_names import StateNames
from lockstep.harness.mapping.modules import Modules, fitting
from lockstep.harness.runs.lockstep_run import UNSHOWN
from lockstep.harness.runs.stages import coarsest

OWN_NAMES = "the optimizers keep states of different forms: each side carries its own"

UNLINKED = "unlinked"
"""Prefix in the optimizer's state of a snapshot: a buffer or parameter that is linked to none of the reference's."""


MODULES = ("forward/", "cotangent/")
"""Kinds of stage that are of modules."""


class RenamedState(NamedTuple):
    """The trainer's own state, and the number of its next step."""

    own: State
    step: int


class Renamed(AdoptedTrainer):
    """A side's trainer at the reference's start. It carries the state that it has under names of its own.

    Args:
        side: the trainer, and how its names read on the reference's side.
        parameters: the reference's arrays that any side trains; all others are buffers.
        shared: the arrays that all sides have; others are stored with the optimizer's state.
        undivided: whether its steps are taken whole, because they cannot be taken apart, or those that they are compared with.
        modules: which of the reference's modules is which of this side's.
    """

    def __init__(
        self,
        side: Side,
        parameters: Collection[str],
        shared: Collection[str],
        modules: Modules,
        undivided: bool = False,
    ) -> None:
        self._side, self._trainer = side, side.trainer
        self._parameters, self._shared, self._modules = parameters, shared, modules
        self._names = StateNames.of(side.mapping, side.shapes, shapes_of(held(side.start)))
        self._own_grads: Arrays = {}
        self.capabilities = side.trainer.capabilities | ({UNDIVIDED} if undivided else frozenset())

    def given(self) -> Arrays:
        start = self.read(self.init())
        return {f"initial/{name}": value for name, value in held(start).items()}

    def init(self) -> RenamedState:
        return RenamedState(self._side.begin(), 0)

    def step(self, state: RenamedState, batch: Batch) -> tuple[RenamedState, Scalar]:
        own, loss = self._trainer.step(state.own, self._own_batch(state, batch))
        return RenamedState(own, state.step + 1), self._scalar(loss)

    def gradients(self, state: RenamedState, batch: Batch) -> tuple[RenamedState, Scalar, Grads]:
        own, loss, grads = self._trainer.gradients(state.own, self._own_batch(state, batch))
        return RenamedState(own, state.step), self._scalar(loss), grads

    def apply(self, state: RenamedState, grads: Grads) -> RenamedState:
        return RenamedState(self._trainer.apply(state.own, grads), state.step + 1)

    def observe(
        self, state: RenamedState, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        own_batch = self._own_batch(state, batch)
        own = (
            self._own_stages(self._trainer.observe(state.own, own_batch, ("forward",)), inject)
            if inject
            else {}
        )
        observed = self._trainer.observe(state.own, own_batch, wanted, own)
        self.coarsest = coarsest(self._trainer)  # of code in another process it is not known
        # The batch is the same for all by construction, and may be a tree.
        return {name: value for name, value in observed.items() if not name.startswith("batch/")}

    def predict(self, state: RenamedState, x: Array) -> Array:
        return self._trainer.predict(state.own, x)

    def read(self, state: RenamedState) -> Snapshot:
        own = self._trainer.read(state.own)
        arrays = self._side.canonical(held(own))
        linked = self._linked()
        unlinked = {name: value for name, value in held(own).items() if name not in linked}
        return Snapshot(
            {name: value for name, value in arrays.items() if name in self._parameters},
            {
                **self._names.canonical(own.optimizer),
                **{f"{UNLINKED}/{name}": value for name, value in unlinked.items()},
            },
            state.step,
            {
                name: value
                for name, value in arrays.items()
                if name not in self._parameters and name in self._shared
            },
            extra=labelled(own.extra, self._side.name),
        )

    def write(self, state: RenamedState, snapshot: Snapshot) -> RenamedState:
        own = self._trainer.read(state.own)
        moved = {**held(own), **self._side.own(held(snapshot), held(own))}
        optimizer, unlinked = self._optimizer(own, snapshot)
        written = self._trainer.write(
            state.own,
            dataclasses.replace(
                own,
                parameters={name: unlinked.get(name, moved[name]) for name in own.parameters},
                buffers={name: unlinked.get(name, moved[name]) for name in own.buffers},
                optimizer=optimizer,
                step=snapshot.step,
                extra=own_extra(own.extra, snapshot.extra, self._side.name),
            ),
        )
        return RenamedState(written, snapshot.step)

    def read_grads(self, grads: Grads) -> Arrays:
        self._own_grads = self._trainer.read_grads(grads)
        return self._side.canonical(self._own_grads)

    def write_grads(self, arrays: Arrays) -> Grads:
        """Parameters that are frozen in the reference, and so have no gradient there, get this side's own."""
        like = self._own_grads or {
            name: np.zeros_like(value) for name, value in self._side.start.parameters.items()
        }
        own = self._side.own(arrays, like)
        return self._trainer.write_grads({name: own[name] for name in like})

    def align(self, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays, Mapping[str, str]]:
        """The reference's stages and this side's, paired; why some cannot be compared."""
        shown_here = {name: value for name, value in left.items() if name.startswith(MODULES)}
        paired = self._modules.paired(shown_here, right)
        ours: dict[str, Array] = {}
        theirs: dict[str, Array] = {}
        reasons: dict[str, str] = {}
        same = forms(_optimizer(left)) == forms(_optimizer(right))
        for name, value in left.items():
            if _is_extra(name):
                continue
            if name.startswith(MODULES):
                ours[name], shown = value, paired.get(name)
                if shown is None:
                    reasons[name] = UNSHOWN
                else:
                    ours[name], theirs[name] = shown
            elif _is_optimizer(name) and not same:
                ours["optimizer"] = np.zeros(0)
                reasons["optimizer"] = OWN_NAMES
            else:
                ours[name] = value
        for name, value in right.items():
            if not (name.startswith(MODULES) or _is_extra(name)) and (same or not _is_optimizer(name)):
                theirs[name] = value
        for name in ours.keys() ^ theirs.keys():
            # A gradient or an update of an array that is frozen on one side alone; a count that one side alone keeps.
            if name.startswith(("gradient/", "buffers/")):
                reasons[name] = UNSHOWN if name in ours else "the reference does not show it"
        return ours, theirs, reasons

    def _own_batch(self, state: RenamedState, batch: Batch) -> Batch:
        """The batch with this side's masks of this step."""
        return batch if self._side.masks is None else self._side.masks(state.step, batch)

    def _own_stages(self, shown: Arrays, inject: Arrays) -> dict[str, Array]:
        """The reference's stages under this side's names and in its layouts, as far as it has such modules."""
        return {
            f"{kind}/{own}": value
            for name, stage in inject.items()
            for kind, own in [(name.partition("/")[0], self._modules.other(name.partition("/")[2]))]
            if f"forward/{own}" in shown and (value := fitting(shown[f"forward/{own}"], stage)) is not None
        }

    def _scalar(self, loss: Any) -> Scalar:
        """A user's loss may be an array of one element."""
        return loss.reshape(()) if np.shape(loss) else loss

    def _linked(self) -> Collection[str]:
        """This side's own names of the shared arrays."""
        mapping = self._side.mapping
        if mapping is None:
            return self._shared
        return {one.right for one in mapping.links if one.left in self._shared}

    def _optimizer(self, own: Snapshot, snapshot: Snapshot) -> tuple[Arrays, Arrays]:
        """The parts of a snapshot's optimizer state, and of its unlinked buffers, that are this side's own."""
        prefix = f"{UNLINKED}/"
        state = {name: value for name, value in snapshot.optimizer.items() if not name.startswith(prefix)}
        unlinked = {
            name.removeprefix(prefix): value
            for name, value in snapshot.optimizer.items()
            if name.startswith(prefix) and name.removeprefix(prefix) in held(own)
        }
        form = forms(own.optimizer) or self._side.form
        state = self._names.own(state, form)
        shared = state.keys() & form.keys()
        fits = shared and all(forms(state)[name] == form[name] for name in shared)
        return (state if fits else own.optimizer), unlinked


def _is_optimizer(name: str) -> bool:
    return "optimizer" in name.split("/")[:2]


def _optimizer(stages: Arrays) -> dict[str, Array]:
    return {name: value for name, value in stages.items() if _is_optimizer(name)}


def _is_extra(name: str) -> bool:
    """Whether a stage is of what each side carries itself."""
    return "extra" in name.split("/")[:2]
