"""An adopted trainer set to the reference's start, and how its names read on the reference's side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from collections.abc import Mapping as AnyMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from lockstep.backends.adoption import Adopted, failing
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, State
from lockstep.harness.mapping.mapping import Mapping, Shapes


@dataclass(frozen=True)
class Side:
    """One adopted trainer, where it starts, and how its names read on the reference's side.

    Attributes:
        name: its name in reports; no other side has it.
        trainer: the adopted code.
        start: the reference's parameters and buffers, in this side's names, its own optimizer's state.
        mapping: from the reference's names to its own; of the reference itself None.
        shapes: of the reference's parameters and buffers.
        masks: (step, batch) -> the batch with the masks for its code; None where it draws none.
        form: names, shapes and dtypes of its optimizer's state after a step; empty where that is not known.
    """

    name: str
    trainer: Adopted
    start: Snapshot
    mapping: Mapping | None
    shapes: Shapes
    masks: Callable[[int, Batch], Batch] | None = None
    form: AnyMapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)

    def canonical(self, arrays: Arrays) -> Arrays:
        """Its arrays under the reference's names and in its layouts."""
        return arrays if self.mapping is None else self.mapping.to_left(arrays, self.shapes)

    def own(self, arrays: Arrays, like: Arrays) -> Arrays:
        """The reference's arrays under its names and in its layouts; arrays that are not linked are those of `like`."""
        if self.mapping is None:
            return arrays
        return {**like, **self.mapping.to_right(arrays, shapes_of(like))}

    def begin(self) -> State:
        """A fresh state at the start."""
        return self.trainer.write(self.trainer.init(), self.start)

    def masked(self, step: int, batch: Batch) -> Batch:
        """The batch of a step as its code receives it."""
        return batch if self.masks is None else self.masks(step, batch)

    def loss(self, batch: Batch) -> float:
        """The loss of a batch, at the start."""
        with step_of(self.trainer):
            _, loss = self.trainer.step(self.begin(), batch)
            return float(np.asarray(loss))


def shapes_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """The shape of each array, by name."""
    return {name: value.shape for name, value in arrays.items()}


def forms(arrays: Arrays) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and dtype of each array, by name."""
    return {name: (value.shape, str(value.dtype)) for name, value in arrays.items()}


def held(snapshot: Snapshot) -> dict[str, Array]:
    """Parameters and buffers."""
    return {**snapshot.parameters, **snapshot.buffers}


def sides_of(names: Sequence[str], trainers: Sequence[Adopted], mappings: Sequence[Mapping]) -> list[Side]:
    """Every trainer at the first one's initial parameters.

    Raises:
        MappingError: a mapping does not fit.
    """
    snapshots = [one.read(one.init()) for one in trainers]
    first = snapshots[0]
    shapes = shapes_of(held(first))
    sides = [Side(names[0], trainers[0], first, None, shapes)]
    for name, trainer, mapping, own in zip(names[1:], trainers[1:], mappings, snapshots[1:], strict=True):
        optional = [f"left:{one}" for one in first.buffers] + [f"right:{one}" for one in own.buffers]
        mapping.check(shapes, shapes_of(held(own)), optional)
        moved = {**held(own), **mapping.to_right(held(first), shapes_of(held(own)))}
        start = dataclasses.replace(
            own,
            parameters={one: moved[one] for one in own.parameters},
            buffers={one: moved[one] for one in own.buffers},
            optimizer=following(own, moved),
            extra=counted(own.extra, first.counts),
        )
        sides.append(Side(name, trainer, start, mapping, shapes))
    return sides


def counted(own: Arrays, counts: Arrays) -> dict[str, Array]:
    """What a side carries itself, with the counts of another's that have the names, shapes and dtypes of its own."""
    form = forms(own)
    return {
        **own,
        **{name: one for name, one in counts.items() if forms({name: one})[name] == form.get(name)},
    }


def following(own: Snapshot, moved: Arrays) -> dict[str, Array]:
    """An optimizer's state where its parameters are moved to another start: what it had copied of all of them follows.

    Lookahead's slow weights are such copies, where they are made with the optimizer.
    """
    slots: dict[str, dict[str, str]] = {}
    for key in own.optimizer:
        for at in [index for index, letter in enumerate(key) if letter == "/"]:
            if key[at + 1 :] in own.parameters:
                slots.setdefault(key[:at], {})[key] = key[at + 1 :]
    followed = dict(own.optimizer)
    for keys in slots.values():
        values = [(own.optimizer[key], own.parameters[name]) for key, name in keys.items()]
        copies = all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in values)
        if copies and any(one.any() for one, _ in values):
            followed |= {key: moved[name] for key, name in keys.items()}
    return followed


def step_of(trainer: Adopted) -> AbstractContextManager[None]:
    """Report an exception of a step outside of a run, where it is not the run's verdict."""
    return failing(
        f"{trainer.name}: a step of it fails", "run its loss alone on the first batch to see where"
    )
