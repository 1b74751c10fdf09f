"""What is known of a disagreement before it is explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lockstep.backends.problem import Array, Arrays, Batch, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.core.spec import RunSpec


@dataclass(frozen=True)
class Observed:
    """One step of a lockstep run, in which a stage diverges.

    Attributes:
        step: from 0.
        batch: what the reference saw.
        before: the reference's state before the step.
        left, right: the stages of the reference and of the other side, under the reference's names.
    """

    step: int
    batch: Batch
    before: Snapshot
    left: Arrays
    right: Arrays

    def stages(self, kind: str) -> tuple[dict[str, Array], dict[str, Array]]:
        """The stages of one kind, on both sides, by what stands after the slash."""
        return _kind(kind, self.left), _kind(kind, self.right)


@dataclass(frozen=True)
class Evidence:
    """What explanations are proposed from.

    Attributes:
        spec: what both sides train.
        step: where they were first seen to differ.
        initial: the suspect's own initial parameters.
        observed: the step in which a stage diverges on equal inputs; None where no such step was found.
        swapped: whether it is the reference of the lockstep run that is suspected.
    """

    spec: RunSpec
    step: int
    initial: Arrays = field(default_factory=dict)
    observed: Observed | None = None
    swapped: bool = False

    @property
    def problem(self) -> Problem | None:
        """The formula of what is trained; None of a user's own code."""
        return self.spec if isinstance(self.spec, Problem) else None


def _kind(kind: str, stages: Mapping[str, Array]) -> dict[str, Array]:
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): value for name, value in stages.items() if name.startswith(prefix)}
