"""Adopted trainers set to one start, checked for randomness, and trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError, failing
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, State, Trace
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.tolerance import FIXED
from lockstep.harness.mapping.mapping import Mapping, Shapes


@dataclass(frozen=True)
class Side:
    """One adopted trainer, where it starts, and how its names read on the reference's side.

    Attributes:
        name: what reports call it; unlike that of any other side.
        trainer: the adopted code.
        start: the reference's parameters and buffers, in this side's names, its own optimizer's state.
        mapping: from the reference's names to its own; of the reference itself None.
        shapes: of the reference's parameters and buffers.
        masks: (step, batch) -> the batch with the masks that its code is given; None where it draws none.
    """

    name: str
    trainer: Adopted
    start: Snapshot
    mapping: Mapping | None
    shapes: Shapes
    masks: Callable[[int, Batch], Batch] | None = None

    def canonical(self, arrays: Arrays) -> Arrays:
        """Its arrays under the reference's names and in its layouts."""
        return arrays if self.mapping is None else self.mapping.to_left(arrays, self.shapes)

    def own(self, arrays: Arrays, like: Arrays) -> Arrays:
        """The reference's arrays under its names and in its layouts; of those in `like` that are not linked, `like`'s."""
        if self.mapping is None:
            return arrays
        return {**like, **self.mapping.to_right(arrays, shapes_of(like))}

    def begin(self) -> State:
        """A fresh state at the start."""
        return self.trainer.write(self.trainer.init(), self.start)

    def batch(self, task: Task, step: int) -> Batch:
        """What its code sees at a step."""
        batch = task.data[step]
        return batch if self.masks is None else self.masks(step, batch)

    def batches(self, task: Task) -> Iterator[Batch]:
        """What its code sees, step by step."""
        return (self.batch(task, step) for step in range(task.steps))

    def loss(self, batch: Batch) -> float:
        """That of a batch, at the start."""
        with step_of(self.trainer):
            _, loss, _ = self.trainer.gradients(self.begin(), batch)
            return float(np.asarray(loss))


def shapes_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """By name."""
    return {name: value.shape for name, value in arrays.items()}


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
        )
        sides.append(Side(name, trainer, start, mapping, shapes))
    return sides


def train(side: Side, task: Task) -> tuple[Trace, float]:
    """The whole run, step by step, and its seconds; the first step is made twice, to see whether it draws.

    Raises:
        AdoptionError: the same step gives other numbers the second time.
    """
    before = _first_step(side.trainer, side.start, side.batch(task, 0))
    started = time.perf_counter()
    state, losses = side.begin(), []
    for index, batch in enumerate(side.batches(task)):
        state, loss = side.trainer.step(state, batch)
        losses.append(loss)
        if index == 0:
            _refuse_if_parted(side.name, before, (np.asarray(loss), side.trainer.read(state)), task.dtype)
    stacked = np.stack([np.asarray(loss, dtype=task.dtype).reshape(()) for loss in losses])
    return Trace(stacked, side.trainer.read(state)), time.perf_counter() - started


First = tuple[Array, Snapshot]
"""The loss of a first step, and the state after it."""


def _first_step(trainer: Adopted, start: Snapshot, batch: Batch) -> First:
    state, loss = trainer.step(trainer.write(trainer.init(), start), batch)
    return np.asarray(loss), trainer.read(state)


def step_of(trainer: Adopted) -> AbstractContextManager[None]:
    """Tell what a step raises outside of a run, where it is not the run's verdict."""
    return failing(
        f"{trainer.name}: a step of it fails", "run its loss alone on the first batch to see where"
    )


def refuse_random(trainer: Adopted, batch: Batch) -> None:
    """Raise an AdoptionError where the same step from the same state gives other numbers the second time, or no number."""
    with step_of(trainer):
        start = trainer.read(trainer.init())
        one, two = (_first_step(trainer, start, batch) for _ in range(2))
    if not np.isfinite(one[0]).all():
        raise AdoptionError(
            f"{trainer.name}: the loss of its first step is not finite: nothing tells which parameter is which",
            str(one[0]),
            "give a first batch without NaN, or a mapping",
        )
    _refuse_if_parted(trainer.name, one, two, trainer.dtype)


def _refuse_if_parted(name: str, one: First, two: First, dtype: str) -> None:
    """What a machine's threads change is within rounding; what a generator changes is not."""
    if odd := _parted(one, two, dtype):
        raise AdoptionError(
            f"{name} draws random numbers: the same step from the same state gives other numbers",
            f"{odd[0]}{f' and {len(odd) - 1} others' if odd[1:] else ''} differ",
            "masks are given to dropout and to torch.bernoulli by themselves, to nothing else; put the rest into evaluation "
            "mode or its rate to 0, pass its numbers with the batch, or, where all sides draw from the same generator, give "
            "each adopt() the same seed or key",
        )


def _parted(one: First, two: First, dtype: str) -> list[str]:
    pairs = {"the loss": (one[0], two[0])}
    pairs |= {name: (value, two[1].parameters[name]) for name, value in one[1].parameters.items()}
    return [name for name, pair in pairs.items() if parted(*pair, dtype)]


def refuse_other_draws(sides: Sequence[Side], task: Task) -> None:
    """Raise an AdoptionError where a side's numbers depend on a generator that not all sides share."""
    generators = {side.name: side.trainer.generator for side in sides}
    if len(set(generators.values())) == 1:
        return
    for side in sides:
        other = side.trainer.redrawn()
        if other is None:
            continue
        batch = side.batch(task, 0)
        with step_of(side.trainer):
            one, two = (_first_step(trainer, side.start, batch) for trainer in (side.trainer, other))
        if _parted(one, two, task.dtype):
            told = ", ".join(f"{name}: {one or 'none'}" for name, one in generators.items())
            raise AdoptionError(
                f"{side.name} draws random numbers that the others do not draw",
                told,
                "masks are given to dropout by themselves, to nothing else; put the rest into evaluation mode or its rate to 0, "
                "or pass its numbers with the batch",
            )


def parted(left: Array, right: Array, dtype: str) -> bool:
    """Whether two arrays are further apart than the fixed tolerance of their dtype; what is not finite is elsewhere."""
    with np.errstate(all="ignore"):
        a, b = (np.nan_to_num(one.astype(np.float64), posinf=0.0, neginf=0.0) for one in (left, right))
        return bool((np.abs(a - b) > FIXED[dtype].rtol * np.abs(a).max(initial=0.0)).any())
