"""A backend with one planted fault: the reference under an intervention."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Unsupported
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.intervention import Intervention


class Mutated:
    """A backend whose trainers make the mistake that `plant` gives for a problem.

    Training starts from the requested problem's initial state even where another problem is trained.
    """

    name = "mutant"

    def __init__(self, reference: Implementation, plant: Callable[[Problem], Intervention]) -> None:
        self._reference = reference
        self._plant = plant

    def supports(self, problem: Problem) -> Unsupported | None:
        return self._reference.supports(problem)

    def trainer(self, problem: Problem) -> Altered:
        change = self._plant(problem)
        asked = self._reference.trainer(problem)
        trained = asked if change.spec is None else self._reference.trainer(change.spec)
        return Altered(trained, change, inputs=asked)

    def environment(self) -> Mapping[str, str | int | bool]:
        return self._reference.environment()
