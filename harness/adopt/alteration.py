"""An alteration: what a reference, or the mapping to a suspect, is made to do, and whether that is what the suspect does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot, Trace
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side, held, sides_of
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.mapping.mapping import Mapping

AFTER = 10
"""Steps that are trained past the first difference: enough to tell."""


@dataclass(frozen=True)
class Alteration:
    """What the suspect is believed to do, and how the reference is made to do it; names are the reference's.

    Attributes:
        name: of the explanation.
        does: in words, to go after the suspect's name.
        turn: gradients -> gradients.
        settle: (parameters before the update, after it) -> after it.
        loss: by what the loss is multiplied.
        drift: by name of a buffer, (α, β): α times the buffer and β times what it was before are added to it.
        mapping: that under which both sides would be the same.
    """

    name: str
    does: str
    turn: Callable[[Arrays], Arrays] | None = None
    settle: Callable[[Arrays, Arrays], Arrays] | None = None
    loss: float = 1.0
    drift: AnyMapping[str, tuple[float, float]] = field(default_factory=dict)
    mapping: Mapping | None = None


def explains(
    one: Alteration, task: Task, left: Side, right: Side, seen: Trace, tolerance: Judge, until: int
) -> bool:
    """Whether the reference, altered, trains what was seen of the suspect; or, under another mapping, the suspect what it trains."""
    steps = min(task.steps, until + 1 + AFTER)
    short = task.replace(data=task.data[:steps])
    if one.mapping is not None:
        ours = _altered(one, left, short)
        theirs = _altered(one, remapped(left, right, one.mapping), short)
        return _same(ours, theirs, tolerance)
    ours = _altered(one, left, short)
    if steps == task.steps:
        theirs = {LOSS: seen.losses, **right.canonical(held(seen.final))}
    else:
        theirs = _altered(Alteration("", ""), right, short)
    return _same(ours, theirs, tolerance)


def remapped(left: Side, right: Side, mapping: Mapping) -> Side:
    """The other side at the reference's start under another mapping."""
    other = sides_of((left.name, right.name), (left.trainer, right.trainer), (mapping,))[1]
    return dataclasses.replace(other, masks=right.masks)


def _altered(one: Alteration, side: Side, task: Task) -> dict[str, Array]:
    """Losses and what the run ends with, under the reference's names."""
    trainer, state, losses = side.trainer, side.begin(), []
    for batch in side.batches(task):
        before = trainer.read(state)
        state, loss, grads = trainer.gradients(state, batch)
        losses.append(one.loss * np.asarray(loss, dtype=np.float64).reshape(()))
        if one.drift:
            state = trainer.write(state, _drifted(before, trainer.read(state), one.drift))
        if one.turn is not None:
            grads = trainer.write_grads(one.turn(trainer.read_grads(grads)))
        state = trainer.apply(state, grads)
        if one.settle is not None:
            after = trainer.read(state)
            settled = one.settle(before.parameters, after.parameters)
            state = trainer.write(state, dataclasses.replace(after, parameters=settled))
    return {LOSS: np.stack(losses), **side.canonical(held(trainer.read(state)))}


def _drifted(before: Snapshot, after: Snapshot, drift: AnyMapping[str, tuple[float, float]]) -> Snapshot:
    moved = dict(after.buffers)
    for name, (alpha, beta) in drift.items():
        value = after.buffers[name]
        moved[name] = (value + alpha * value + beta * before.buffers[name]).astype(value.dtype)
    return dataclasses.replace(after, buffers=moved)


def _same(left: Arrays, right: Arrays, tolerance: Judge) -> bool:
    """Whether everything that both have is within the tolerance."""
    for name, value in left.items():
        if name in right:
            scale = tolerance.scale(value, name == LOSS)
            limit = tolerance.limit(name, scale)
            if not (np.abs(value.astype(np.float64) - right[name]) <= limit).all():
                return False
    return True
