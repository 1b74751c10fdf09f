"""A trainer that is to repeat a recorded run: whether it can, and where it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.harness.adopt.randomness import check_repeats, drawn
from lockstep.harness.adopt.side import Side, counted, following, held, shapes_of
from lockstep.harness.adopt.task import Task
from lockstep.harness.bundle import BundleError, Recorded, RecordedTask
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.mapping.mapping import Mapping as Names

FEW = 3
"""Names of parameters in an error."""


def side_of(recorded: RecordedTask, run: Recorded, trainer: Adopted, task: Task, mapping: Any) -> Side:
    """The trainer at the recorded start, or at its own where only the hashes of that one were recorded.

    Raises:
        LockstepError: dtype, names, shapes or random numbers are not those that were recorded, the mapping does not fit, or
            a step does not repeat.
    """
    side = check_repeats(_started(recorded, _fitting(run, trainer, mapping)), task)
    here = drawn(trainer, side.start, task.data[0])
    if here != recorded.generator:
        raise AdoptionError(
            "other random numbers were drawn where it was recorded",
            f"recorded {shortened(recorded.generator or 'none')}, here {here or 'none'}",
            "give adopt() the recorded seed or key, or record without dropout",
        )
    return side


def check_dtype(recorded: RecordedTask, trainer: Adopted) -> None:
    """Raise an AdoptionError where the trainer has parameters of another dtype."""
    if trainer.dtype != recorded.dtype:
        raise AdoptionError(
            "the trainer's parameters have another dtype than the recorded ones",
            f"{trainer.dtype}, recorded {recorded.dtype}",
            "make them the same (torch: module.double(); JAX: JAX_ENABLE_X64=1)",
        )


def _fitting(run: Recorded, trainer: Adopted, mapping: Any) -> Side:
    """The trainer at its own start, under the recorded names."""
    assert run.run.trace is not None
    own, last = trainer.read(trainer.init()), run.run.trace.final
    names = None if mapping is None else Names.of(mapping)
    shapes = shapes_of(held(last))
    if names is not None:
        optional = [f"left:{one}" for one in last.buffers] + [f"right:{one}" for one in own.buffers]
        names.check(shapes, shapes_of(held(own)), optional)
    elif others := _others(shapes_of(last.parameters), shapes_of(own.parameters)):
        raise BundleError(
            "the trainer has other parameters than were recorded",
            "; ".join(others),
            "give which is which with --map FILE (`lockstep map` finds it where both trainers are at hand)",
        )
    return Side(trainer.name, trainer, own, names, shapes)


def _started(recorded: RecordedTask, side: Side) -> Side:
    if recorded.start is None:
        return side
    own = side.start
    moved = {**held(own), **side.own(held(recorded.start), held(own))}
    start = dataclasses.replace(
        own,
        parameters={name: moved[name] for name in own.parameters},
        buffers={name: moved[name] for name in own.buffers},
        optimizer=following(own, moved),
        extra=counted(own.extra, recorded.start.counts),
    )
    return dataclasses.replace(side, start=start)


def _others(recorded: Mapping[str, tuple[int, ...]], here: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A few of the parameters that are on one side alone, or in another shape."""
    names = [name for name in sorted(recorded.keys() | here.keys()) if recorded.get(name) != here.get(name)]
    listed = [
        f"{shortened(name)}: recorded {recorded.get(name, 'none')}, here {here.get(name, 'none')}"
        for name in names[:FEW]
    ]
    return listed + ([f"and {len(names) - FEW} others"] if names[FEW:] else [])
