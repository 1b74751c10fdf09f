"""The updates that two sides make of equal state and gradients, step after step, past their first difference."""

from __future__ import annotations

from collections.abc import Iterator

from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import UNDIVIDED, State, Trainer
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.lockstep_run import Carrying, aligned, is_finite
from lockstep.harness.runs.observed import Observed
from lockstep.harness.runs.stages import gradients, observed_step, prefixed, updates


def updates_of(spec: RunSpec, reference: Trainer, other: Trainer) -> Iterator[Observed]:
    """Every step of a run, with its gradients and updates alone; nothing is kept from one step to the next.

    Both sides start each step from the reference's state, and the reference's gradients go into the other's optimizer.
    Where the other side carries its optimizer's state itself, it goes on from the state that it has.

    Args:
        spec: the run.
        reference, other: two trainers of it; of steps that cannot be taken apart the updates alone are known, each side's
            of its own gradients.
    """
    if UNDIVIDED in other.capabilities:
        yield from _of_whole_steps(spec, reference, other)
        return
    state = reference.init()
    carried = other.init() if isinstance(other, Carrying) else None
    for step, batch in enumerate(spec.batches()):
        before = reference.read(state)
        if not is_finite(before):
            return
        state, _, grads = reference.gradients(state, batch)
        ours = prefixed("gradient", reference.read_grads(grads))
        state, moved = _applied(reference, state, gradients(ours))
        begun = other.write(other.init() if carried is None else carried, before)
        begun, _, own = other.gradients(begun, batch)
        theirs = prefixed("gradient", other.read_grads(own))
        after, moves = _applied(other, begun, gradients(ours))
        carried = None if carried is None else after
        left, right, _ = aligned(other, {**ours, **moved}, {**theirs, **moves})
        yield Observed(step, batch, before, left, right)


def _of_whole_steps(spec: RunSpec, reference: Trainer, other: Trainer) -> Iterator[Observed]:
    state, theirs = reference.init(), other.init()
    for step, batch in enumerate(spec.batches()):
        before = reference.read(state)
        if not is_finite(before):
            return
        ours, state = observed_step(reference, state, batch)
        stages, theirs = observed_step(other, other.write(theirs, before), batch)
        left, right, _ = aligned(other, ours, stages)
        yield Observed(step, batch, before, _updates(left), _updates(right))


def _updates(stages: Arrays) -> Arrays:
    return {name: value for name, value in stages.items() if name.startswith("update/")}


def _applied(trainer: Trainer, state: State, grads: Arrays) -> tuple[State, Arrays]:
    """The state after an update, and the update of each parameter."""
    before = trainer.read(state).parameters
    state = trainer.apply(state, trainer.write_grads(grads))
    return state, prefixed("update", updates(before, trainer.read(state).parameters))
