"""One step in which both sides were observed stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot


@dataclass(frozen=True)
class Observed:
    """One step of a lockstep run.

    Attributes:
        step: from 0.
        batch: the reference's batch.
        before: the reference's state before the step.
        left, right: the stages of the reference and of the other side, under the reference's names.
    """

    step: int
    batch: Batch
    before: Snapshot
    left: Arrays
    right: Arrays

    def stages(self, kind: str) -> tuple[dict[str, Array], dict[str, Array]]:
        """The stages of one kind, on both sides, by the part of the name after the slash."""
        return _kind(kind, self.left), _kind(kind, self.right)


def _kind(kind: str, stages: Mapping[str, Array]) -> dict[str, Array]:
    """The stages of a kind; a kind without parts has its own name."""
    parts = {name: name.partition("/") for name in stages}
    return {part[2] or kind: stages[name] for name, part in parts.items() if part[0] == kind}
