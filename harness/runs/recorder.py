"""A run that is trained step by step, and recorded at chosen steps; reading a state does not consume it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Arrays, Batch
from lockstep.backends.protocol import Recording, Snapshot, State, Trace, Trainer
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.free_run import Fit

LAST = "last"
"""The name of the last step."""


@dataclass(frozen=True)
class RecordedSteps:
    """At which steps more than the losses is recorded.

    Attributes:
        parameters: after how many steps, 0 for the initial ones.
        stages: of which steps, from 0.
    """

    parameters: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()

    @property
    def stepwise(self) -> bool:
        """Whether the run must be trained step by step."""
        return bool(self.parameters or self.stages)


class Recorder:
    """Trains step by step and records parameters, and the states before chosen steps."""

    def __init__(self, steps: RecordedSteps) -> None:
        self._steps = steps
        self.parameters: dict[int, Arrays] = {}
        self.states: dict[int, Snapshot] = {}

    def __call__(self, trainer: Trainer) -> Fit:
        """The `fit` of this trainer."""

        def fit(state: State, batches: Any, recording: Recording) -> Trace:
            return self._train(trainer, state, batches)

        return fit

    def _train(self, trainer: Trainer, state: State, batches: Iterable[Batch]) -> Trace:
        losses = []
        for step, batch in enumerate(batches):
            self._read(trainer, state, step)
            state, loss = trainer.step(state, batch)
            losses.append(np.asarray(loss))
        self._read(trainer, state, len(losses))
        return Trace(np.stack(losses), trainer.read(state))

    def _read(self, trainer: Trainer, state: State, step: int) -> None:
        if step in self._steps.parameters:
            self.parameters[step] = trainer.read(state).parameters
        if step in self._steps.stages:
            self.states[step] = trainer.read(state)


def recorded_steps(
    spec: RunSpec, parameters: Iterable[int | str], stages: Iterable[int | str]
) -> RecordedSteps:
    """The steps of this run at which the user wants parameters and stages.

    Raises:
        ProblemError: one is beyond the run.
    """
    return RecordedSteps(
        _steps(spec, parameters, spec.steps, "parameters-at"),
        _steps(spec, stages, spec.steps - 1, "stages-at"),
    )


def _steps(spec: RunSpec, wanted: Iterable[int | str], last: int, option: str) -> tuple[int, ...]:
    steps = [last if one == LAST else one for one in wanted]
    for one in steps:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= last:
            raise ProblemError(
                f"{option}: not a step of {spec.name!r}", repr(one), f"give 0 to {last}, or {LAST!r}"
            )
    return tuple(sorted({int(one) for one in steps}))
