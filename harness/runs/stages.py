"""Everything that one training step computes, stage by stage, from a given state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Arrays, Batch, Problem
from lockstep.backends.protocol import UNDIVIDED, Snapshot, State, Trainer
from lockstep.harness.core.spec import RunSpec

OBSERVED = ("batch", "forward", "cotangent")
"""Stages that only `observe` gives."""

ASIDE = (*OBSERVED, "clipped")
"""Stages that are computed outside of the step."""

OPTIMISED = ("clipped", "accumulator", "optimizer", "update", "parameters", "average", "step")
"""Stages that start from the optimizer's state."""


def stages_of(
    trainer: Trainer, snapshot: Snapshot, batch: Batch, injected: Arrays | None = None
) -> dict[str, Array]:
    """`observed_step` from `snapshot`, by a fresh state of the trainer."""
    return observed_step(trainer, trainer.write(trainer.init(), snapshot), batch, injected)[0]


def observed_step(
    trainer: Trainer, state: State, batch: Batch, injected: Arrays | None = None, undivided: bool = True
) -> tuple[dict[str, Array], State]:
    """One step, in the order in which it is computed, and the state after it.

    ``state/...`` the state before it; ``batch``, ``forward``, ``loss``, ``cotangent``, ``gradient`` as in
    `lockstep.backends.protocol.STAGES`; ``buffers/...`` after the forward pass; then, with the injected gradients, ``clipped``
    (where the problem clips and an update is due), ``accumulator``, ``optimizer``, ``update`` (parameters after minus before, in float64), ``parameters``, ``average``,
    ``count``; last ``step/...``: the loss and the state of the undivided step, which nothing is injected into. Of a step that
    cannot be taken apart the undivided one is all that there is: its loss, and what it makes of the state.

    Args:
        trainer: computes the step; without the capability ``stages`` the stages OBSERVED are left out.
        state: where the step starts; it is consumed.
        batch: its batch.
        injected: the gradients that are applied, by parameter; by default the trainer's own.
        undivided: whether the undivided step is computed, too.
    """
    if UNDIVIDED in trainer.capabilities:
        return _undivided_step(trainer, state, batch)
    before = trainer.read(state)
    stages = prefixed("state", fields(before))
    observed = trainer.observe(state, batch, OBSERVED) if "stages" in trainer.capabilities else {}
    state, loss, grads = trainer.gradients(state, batch)
    own = trainer.read_grads(grads)
    forward = {name: value for name, value in observed.items() if not name.startswith("cotangent/")}
    backward = {name: value for name, value in observed.items() if name.startswith("cotangent/")}
    stages |= {**forward, "loss": np.asarray(loss), **backward, **prefixed("gradient", own)}
    moved = trainer.read(state)
    stages |= prefixed("buffers", {**moved.buffers, **moved.counts})
    applied = own if injected is None else injected
    if "stages" in trainer.capabilities:
        stages |= prefixed("clipped", trainer.clipped(state, trainer.write_grads(applied)))
    state = trainer.apply(state, trainer.write_grads(applied))
    after = trainer.read(state)
    stages |= prefixed("accumulator", after.accumulator)
    stages |= prefixed("optimizer", after.optimizer)
    stages |= prefixed("update", updates(before.parameters, after.parameters))
    stages |= prefixed("parameters", after.parameters)
    stages |= prefixed("average", after.average)
    stages["count"] = np.asarray(after.step)
    if undivided:
        whole, loss = trainer.step(trainer.write(trainer.init(), before), batch)
        # What is extra is each side's own: it shows in what a later step computes.
        after = dataclasses.replace(trainer.read(whole), extra={})
        stages |= {"step/loss": np.asarray(loss)} | prefixed("step", fields(after))
    return stages, state


def _undivided_step(trainer: Trainer, state: State, batch: Batch) -> tuple[dict[str, Array], State]:
    """`observed_step` of a step without halves."""
    before = trainer.read(state)
    state, loss = trainer.step(state, batch)
    after = trainer.read(state)
    stages = {
        **prefixed("state", fields(before)),
        "loss": np.asarray(loss),
        **prefixed("buffers", {**after.buffers, **after.counts}),
        **prefixed("optimizer", after.optimizer),
        **prefixed("update", updates(before.parameters, after.parameters)),
        **prefixed("parameters", after.parameters),
        "count": np.asarray(after.step),
    }
    return stages, state


def coarsest(trainer: Trainer) -> float:
    """The eps of the coarsest output of a module in half precision when it was last observed; 0 where there is none."""
    known: float = getattr(trainer, "coarsest", 0.0)
    return known


def gradients(stages: Arrays) -> dict[str, Array]:
    """The gradients among the stages of a step, by parameter."""
    return {
        name.removeprefix("gradient/"): value
        for name, value in stages.items()
        if name.startswith("gradient/")
    }


def fields(snapshot: Snapshot) -> dict[str, Array]:
    """A snapshot as flat arrays: ``parameters/<name>``, ``optimizer/<slot>/<name>``, ..., ``count``."""
    kinds = [prefixed(kind, getattr(snapshot, kind)) for kind in _KINDS]
    return {name: value for arrays in kinds for name, value in arrays.items()} | {
        "count": np.asarray(snapshot.step)
    }


def snapshot_of(arrays: Arrays) -> Snapshot:
    """The snapshot whose `fields` these are.

    Raises:
        LockstepError: a name is none of a snapshot's, or the count is missing or no count.
    """
    kinds: dict[str, dict[str, Array]] = {name: {} for name in _KINDS}
    for name, value in arrays.items():
        kind, _, part = name.partition("/")
        if name != "count" and (kind not in kinds or not part):
            raise LockstepError("a state holds no such array", repr(name), f"use {', '.join(_KINDS)}")
        if name != "count":
            kinds[kind][part] = value
    count = arrays.get("count", _NO_COUNT)
    if count.shape or count.dtype.kind != "i" or count < 0:
        got = "none" if count is _NO_COUNT else f"shape {count.shape} of {count.dtype}"
        raise LockstepError("a state lacks its count of steps", got, "give a whole number")
    return Snapshot(step=int(count), **kinds)


_KINDS = ("parameters", "buffers", "accumulator", "optimizer", "average", "extra")
_NO_COUNT = np.asarray(-1)


def out_of_reach(trainer: Trainer, spec: RunSpec, step: int) -> Mapping[str, str]:
    """The kinds of stage that this trainer cannot be compared in, each with the reason."""
    reasons = {}
    if "stages" not in trainer.capabilities:
        reasons = dict.fromkeys(ASIDE, "it cannot be observed: no capability 'stages'")
    # Before the first step every optimizer's state is the problem's own, so nothing needs to be written.
    optimizer_state = spec.optimizer.state if isinstance(spec, Problem) else ()
    if "optimizer_state" not in trainer.capabilities and optimizer_state and step:
        lacking = "its optimizer's state cannot be set: no capability 'optimizer_state'"
        reasons |= dict.fromkeys(("state", *OPTIMISED), lacking)
    return reasons


def updates(before: Arrays, after: Arrays) -> dict[str, Array]:
    """After minus before; an array of another shape stands as it is, for its shape to be found wrong."""
    return {
        name: value.astype(np.float64) - before[name] if value.shape == before[name].shape else value
        for name, value in after.items()
        if name in before
    }


def prefixed(kind: str, arrays: Arrays) -> dict[str, Array]:
    """Arrays as stages of a kind."""
    return {f"{kind}/{name}": value for name, value in arrays.items()}
