"""How a run goes on: a step and its halves, continuing, repeating."""

from __future__ import annotations

import dataclasses

import numpy as np

from lockstep.backends.problem import Arrays, Batch
from lockstep.backends.protocol import LOSSES_ONLY, Snapshot
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.equality import near, near_state, same, same_state
from lockstep.harness.conformance.subject import Subject, advance
from lockstep.harness.runs.free_run import fit_of
from lockstep.harness.runs.stages import fields


def halves(subject: Subject) -> None:
    """`step` is `gradients`, then `apply`; gradients that were read out and written in again are the same."""
    trainer, batch = subject.trainer, subject.batch
    whole, loss = trainer.step(trainer.init(), batch)
    state, half_loss, grads = trainer.gradients(trainer.init(), batch)
    parts = trainer.apply(state, trainer.write_grads(trainer.read_grads(grads)))
    near("the loss", {"loss": np.asarray(half_loss)}, {"loss": np.asarray(loss)}, subject.close)
    near_state("gradients, then apply", trainer.read(parts), trainer.read(whole), subject.close)


def gradients_only(subject: Subject) -> None:
    """`gradients` moves buffers, and nothing else."""
    trainer, batch = subject.trainer, subject.batch
    state = advance(trainer, trainer.init(), batch, 6)
    before = _without_buffers(trainer.read(state))
    state, _, _ = trainer.gradients(state, batch)
    same("the state after `gradients`", _without_buffers(trainer.read(state)), before)


def _without_buffers(snapshot: Snapshot) -> Arrays:
    return fields(dataclasses.replace(snapshot, buffers={}))


def continues(subject: Subject) -> None:
    """A fresh trainer that was given a snapshot trains what uninterrupted training trains, to the bit."""
    trainer, batch = subject.trainer, subject.batch
    if subject.problem.optimizer.state and "optimizer_state" not in trainer.capabilities:
        return
    # Where four batches make an update: after two updates, within the third.
    state = advance(trainer, trainer.init(), batch, 10)
    snapshot = trainer.read(state)
    straight = trainer.read(advance(trainer, state, batch, 3))
    fresh = subject.fresh()
    resumed = fresh.read(advance(fresh, fresh.write(fresh.init(), snapshot), batch, 3))
    same_state("continued from a snapshot of step 10", resumed, straight)
    expect(straight.step == 13, "13 batches seen after 13 steps", straight.step)


def short_batch(subject: Subject) -> None:
    """Nothing about the first batch's length is remembered."""
    trainer, batch = subject.trainer, subject.batch
    short = Batch(batch.x[:4], batch.y[:4], {name: mask[:4] for name, mask in batch.masks.items()})
    after, _ = trainer.step(trainer.init(), batch)
    snapshot = trainer.read(after)
    state, _ = trainer.step(after, short)
    if subject.problem.optimizer.state and "optimizer_state" not in trainer.capabilities:
        expect(trainer.read(state).step == 2, "2 batches seen", trainer.read(state).step)
        return
    fresh = subject.fresh()
    alone, _ = fresh.step(fresh.write(fresh.init(), snapshot), short)
    near_state("a short batch after a full one", trainer.read(state), fresh.read(alone), subject.close)
    longer, _ = trainer.step(state, batch)
    whole, _ = fresh.step(alone, batch)  # whose first batch was the short one
    near_state("a full batch after a short one", fresh.read(whole), trainer.read(longer), subject.close)


def deterministic(subject: Subject) -> None:
    """Two runs of fresh trainers are one run, to the bit."""
    first, second = (
        fit_of(trainer)(trainer.init(), subject.problem.batches(), LOSSES_ONLY)
        for trainer in (subject.trainer, subject.fresh())
    )
    same("the losses of a second run", {"losses": second.losses}, {"losses": first.losses})
    same_state("a second run", second.final, first.final)
