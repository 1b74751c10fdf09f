"""What a side carries itself from step to step: in a snapshot it is labelled with the side's name.

A snapshot of the reference is written to every side. Its counts are what all start a step from; its attributes, a learning rate
that a scheduler moves for instance, would hide what the other side makes of its own.
"""

from __future__ import annotations

from lockstep.backends.problem import Array, Arrays
from lockstep.harness.adopt.side import counted

LABEL = "|"
"""Between a side's name and that of an attribute."""

OF_UPDATES = ("optimizer/", "scheduler/")
"""What is carried of an optimizer and a scheduler."""


def labelled(extra: Arrays, side: str) -> dict[str, Array]:
    """The extra arrays of a side's snapshot; the counts keep their names."""
    return {f"{side}{LABEL}{name}" if ":" in name else name: value for name, value in extra.items()}


def own_extra(own: Arrays, given: Arrays, side: str) -> dict[str, Array]:
    """A side's extra arrays where it is to continue from a snapshot.

    Args:
        own: those that it has.
        given: those of the snapshot: its own, another side's, or recorded ones, which have no label.
        side: its name.
    """
    counts = {name: value for name, value in given.items() if ":" not in name}
    unlabelled = {name: value for name, value in given.items() if ":" in name and LABEL not in name}
    prefix = f"{side}{LABEL}"
    mine = {name.removeprefix(prefix): one for name, one in given.items() if name.startswith(prefix)}
    return {**counted(own, counts), **unlabelled, **mine}


def recorded_extra(name: str) -> str | None:
    """The name under which an extra array is recorded; None of what belongs to an optimizer and a scheduler: they are the code's."""
    label, _, rest = name.rpartition(LABEL)
    return None if label and rest.startswith(OF_UPDATES) else rest
