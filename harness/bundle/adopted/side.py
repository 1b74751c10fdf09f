"""A trainer that is to repeat a recorded run: whether it can, and where it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side, held, shapes_of
from lockstep.harness.bundle import BundleError, KeptTask, Recorded
from lockstep.harness.bundle.adopted.recording import drawn
from lockstep.harness.mapping.mapping import Mapping as Names
from lockstep.harness.problems.document import shortened

FEW = 3
"""Names of parameters that an error tells."""


def check_dtype(kept: KeptTask, trainer: Adopted) -> None:
    """Raise an AdoptionError where the trainer has parameters of another dtype."""
    if trainer.dtype != kept.dtype:
        raise AdoptionError(
            "the trainer's parameters have another dtype than the recorded ones",
            f"{trainer.dtype}, recorded {kept.dtype}",
            "make them the same (torch: module.double(); JAX: JAX_ENABLE_X64=1)",
        )


def check_drawn(kept: KeptTask, trainer: Adopted, task: Task) -> None:
    """Raise an AdoptionError where other random numbers are drawn here."""
    here = drawn(trainer, task.data[0])
    if here != kept.generator:
        raise AdoptionError(
            "other random numbers were drawn where it was recorded",
            f"recorded {shortened(kept.generator or 'none')}, here {here or 'none'}",
            "give adopt() the recorded seed or key, or record without dropout",
        )


def side_of(kept: KeptTask, recorded: Recorded, trainer: Adopted, mapping: Any) -> Side:
    """The trainer at the recorded start, or at its own where only the hashes of that one were kept.

    Raises:
        LockstepError: the names or shapes are not those that were recorded, or the mapping does not fit.
    """
    assert recorded.run.trace is not None
    own, last = trainer.read(trainer.init()), recorded.run.trace.final
    names = None if mapping is None else Names.of(mapping)
    shapes = shapes_of(held(last))
    if names is not None:
        optional = [f"left:{one}" for one in last.buffers] + [f"right:{one}" for one in own.buffers]
        names.check(shapes, shapes_of(held(own)), optional)
    elif odd := _odd(shapes_of(last.parameters), shapes_of(own.parameters)):
        raise BundleError(
            "the trainer has other parameters than were recorded",
            "; ".join(odd),
            "give which is which with --map FILE (`lockstep map` finds it where both trainers are at hand)",
        )
    side = Side(trainer.name, trainer, own, names, shapes)
    if kept.start is None:
        return side
    moved = {**held(own), **side.own(held(kept.start), held(own))}
    start = dataclasses.replace(
        own,
        parameters={name: moved[name] for name in own.parameters},
        buffers={name: moved[name] for name in own.buffers},
    )
    return dataclasses.replace(side, start=start)


def _odd(recorded: Mapping[str, tuple[int, ...]], here: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A few of the parameters that are on one side alone, or in another shape."""
    names = [name for name in sorted(recorded.keys() | here.keys()) if recorded.get(name) != here.get(name)]
    told = [
        f"{shortened(name)}: recorded {recorded.get(name, 'none')}, here {here.get(name, 'none')}"
        for name in names[:FEW]
    ]
    return told + ([f"and {len(names) - FEW} others"] if names[FEW:] else [])
