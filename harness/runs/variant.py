"""A variant: a reference that is made to do what a suspect is believed to do, and the training of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.backends.protocol import Snapshot, Trace, Trainer

Turn = Callable[[Arrays, Arrays], Arrays]
"""(the gradients of this step, those of the step before or none) -> the gradients that are applied."""

Settle = Callable[[Snapshot, Snapshot], Snapshot]
"""(the state before the update, after it) -> the state that training goes on with."""


@dataclass(frozen=True)
class Variant:
    """How a reference is altered.

    Attributes:
        does: what the suspect is then believed to do, to go after its name: "averages where the problem says sum".
        problem: what is trained.
        start: the state before the first step -> the one that training starts from.
        turn: what is done to the gradients.
        settle: what is done to the state after each step.
    """

    does: str
    problem: Problem
    start: Callable[[Snapshot], Snapshot] | None = None
    turn: Turn | None = None
    settle: Settle | None = None


def train_variant(variant: Variant, trainer: Trainer) -> Trace:
    """The whole run of a variant, by a trainer of its problem."""
    state = trainer.init()
    if variant.start is not None:
        state = trainer.write(state, variant.start(trainer.read(state)))
    losses, previous = [], dict[str, Array]()
    for batch in variant.problem.batches():
        before = trainer.read(state) if variant.settle is not None else None
        state, loss, grads = trainer.gradients(state, batch)
        losses.append(np.asarray(loss))
        if variant.turn is not None:
            own = dict(trainer.read_grads(grads))
            grads, previous = trainer.write_grads(variant.turn(own, previous)), own
        state = trainer.apply(state, grads)
        if variant.settle is not None and before is not None:
            state = trainer.write(state, variant.settle(before, trainer.read(state)))
    return Trace(np.stack(losses), trainer.read(state))
