"""Bugs that no single step shows: state that a checkpoint loses or an epoch resets, other batches in the fused run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from lockstep.backends.problem import Batches
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations import (
    BATCH_ORDER,
    LAST_BATCH,
    LENGTH,
)
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest.mutants.mutant import CARRIED as SHOWS
from lockstep.harness.selftest.mutants.mutant import Mutant, Plant, zeros


def _without(**fields: Callable[[Any], Any]) -> Callable[[Snapshot], Snapshot]:
    """A state without some of its fields."""

    def forget(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(
            snapshot, **{name: lose(getattr(snapshot, name)) for name, lose in fields.items()}
        )

    return forget


def _lost(**fields: Callable[[Any], Any]) -> Plant:
    """Fields that a checkpoint loses."""
    return lambda problem, rng: Intervention(on_read=_without(**fields))


def _each_epoch(**fields: Callable[[Any], Any]) -> Plant:
    """Fields that the fused run resets between epochs."""
    return lambda problem, rng: Intervention(on_epoch=_without(**fields))


def _run(change: Callable[[Batches], Batches]) -> Plant:
    return lambda problem, rng: Intervention(on_run=change)


def _batching(**changes: Any) -> Plant:
    return _run(
        lambda batches: dataclasses.replace(
            batches, batching=dataclasses.replace(batches.batching, **changes)
        )
    )


CARRIED = (
    Mutant("momentum lost in a checkpoint", SHOWS, ("momentum", "nesterov"), _lost(optimizer=zeros)),
    Mutant("the count lost in a checkpoint", SHOWS, ("adam", "schedule-step"), _lost(step=lambda step: 0)),
    Mutant("running averages lost in a checkpoint", SHOWS, ("batch-norm",), _lost(buffers=zeros)),
    Mutant(
        "momentum reset at each epoch",
        SHOWS,
        ("momentum", "minibatches", "adam"),
        _each_epoch(optimizer=zeros),
    ),
    Mutant(
        "the count reset at each epoch",
        SHOWS,
        ("adam", "schedule-exponential"),
        _each_epoch(step=lambda step: 0),
    ),
    Mutant(
        "accumulated gradients lost at the end of an epoch",
        SHOWS,
        ("accumulated",),
        _each_epoch(accumulator=zeros),
    ),
    Mutant("rows not shuffled", SHOWS, ("minibatches",), _batching(shuffle=None), BATCH_ORDER),
    Mutant("the last, short batch dropped", SHOWS, ("minibatches",), _batching(keep_last=False), LAST_BATCH),
    Mutant(
        "one epoch short",
        SHOWS,
        ("seed", "momentum"),
        _run(lambda batches: dataclasses.replace(batches, epochs=batches.epochs - 1)),
        LENGTH,
    ),
)
