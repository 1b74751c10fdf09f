"""What is known of a disagreement before it is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.observed import Observed

__all__ = ["Evidence", "Observed", "StepNumbers"]


class StepNumbers(NamedTuple):
    """What one step shows, from equal state and gradients on both sides.

    Attributes:
        step: from 0.
        norm: of the witness' gradients, all together.
        ratio: the number by which all of the suspect's updates are multiples of the witness'; None where there is none.
        decay: the share of the parameters by which the updates differ; None where there is none.
        decayed: the parameters that it is of.
    """

    step: int
    norm: float
    ratio: float | None = None
    decay: float | None = None
    decayed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What explanations are proposed from.

    Attributes:
        spec: what both sides train.
        step: where they were first observed to differ.
        initial: the suspect's own initial parameters.
        observed: the step in which a stage diverges on equal inputs; None where there is no such step.
        swapped: whether it is the reference of the lockstep run that is suspected.
        steps: what every step shows by itself; nothing where only one was observed.
    """

    spec: RunSpec
    step: int
    initial: Arrays = field(default_factory=dict)
    observed: Observed | None = None
    swapped: bool = False
    steps: Callable[[], Sequence[StepNumbers]] = tuple

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
