"""What is known of a disagreement before it is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.observed import Observed

__all__ = ["Evidence", "Observed"]


def _none(spec: RunSpec) -> Iterable[Observed]:
    """The steps of two sides that were not observed in more than one."""
    return ()


@dataclass(frozen=True)
class Evidence:
    """What explanations are proposed from.

    Attributes:
        spec: what both sides train.
        step: where they were first observed to differ.
        initial: the suspect's own initial parameters.
        observed: the step in which a stage diverges on equal inputs; None where there is no such step.
        swapped: whether it is the reference of the lockstep run that is suspected.
        updates: (the run, or its first steps) -> what both sides make of equal state and gradients in every step.
    """

    spec: RunSpec
    step: int
    initial: Arrays = field(default_factory=dict)
    observed: Observed | None = None
    swapped: bool = False
    updates: Callable[[RunSpec], Iterable[Observed]] = _none

    @property
    def problem(self) -> Problem | None:
        """The formula of what is trained; None of a user's own code."""
        return self.spec if isinstance(self.spec, Problem) else None

    def stages(self, kind: str) -> tuple[dict[str, Array], dict[str, Array]]:
        """The observed stages of one kind: of the side that is believed, then of the suspect; none where none were observed."""
        if self.observed is None:
            return {}, {}
        left, right = self.observed.stages(kind)
        return (right, left) if self.swapped else (left, right)
