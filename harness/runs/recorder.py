"""One run, trained in a way that allows to look at it at chosen moments, and what is seen then."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable

import numpy as np

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import Backend, Recording, Snapshot, State, Trace, Trainer
from lockstep.harness.bundle import BundleError, Moments, Recorded
from lockstep.harness.core.compare import Fingerprint
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.free_run import Fit, fit_of, free_run
from lockstep.harness.runs.stages import out_of_reach, stages_of

BATCHES = "batches"
"""Among the fingerprints of what was given: that of every batch of the run, in its order."""

LAST = "last"
"""The moment after the last step."""


class Watched:
    """How a trainer trains step by step, and what is read of it on the way; reading consumes nothing."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self.parameters: dict[int, Arrays] = {}
        self.states: dict[int, Snapshot] = {}

    def __call__(self, trainer: Trainer) -> Fit:
        """The `fit` of this trainer."""

        def fit(state: State, batches: Batches, recording: Recording) -> Trace:
            return self.train(trainer, state, batches)

        return fit

    def train(self, trainer: Trainer, state: State, batches: Iterable[Batch]) -> Trace:
        """One step after the other from a state."""
        losses = []
        for step, batch in enumerate(batches):
            self._read(trainer, state, step)
            state, loss = trainer.step(state, batch)
            losses.append(np.asarray(loss))
        self._read(trainer, state, len(losses))
        return Trace(np.stack(losses), trainer.read(state))

    def _read(self, trainer: Trainer, state: State, step: int) -> None:
        if step in self._moments.parameters:
            self.parameters[step] = trainer.read(state).parameters
        if step in self._moments.stages:
            self.states[step] = trainer.read(state)


def moments_of(problem: RunSpec, parameters: Iterable[int | str], stages: Iterable[int | str]) -> Moments:
    """The moments that are asked for, of this problem.

    Raises:
        ProblemError: one is beyond the run.
    """
    return Moments(
        _steps(problem, parameters, problem.steps, "parameters-at"),
        _steps(problem, stages, problem.steps - 1, "stages-at"),
    )


def _steps(problem: RunSpec, wanted: Iterable[int | str], last: int, what: str) -> tuple[int, ...]:
    steps = [last if one == LAST else one for one in wanted]
    for one in steps:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= last:
            raise ProblemError(
                f"{what}: not a moment of {problem.name!r}", repr(one), f"give 0 to {last}, or {LAST!r}"
            )
    return tuple(sorted({int(one) for one in steps}))


def train(backend: Backend, problem: Problem, index: int, moments: Moments) -> Recorded:
    """One run and what is kept of it.

    Raises:
        BundleError: it did not train, or its stages cannot be recorded.
    """
    watched = Watched(moments)
    run = free_run(backend, problem, fit=watched if moments.stepwise else fit_of)
    if run.trace is None:
        raise BundleError(
            f"{run.backend} did not train {run.problem} {run.dtype}",
            run.reason,
            run.fix or "leave one of them out",
        )
    if len(run.trace.losses) != problem.steps:
        raise BundleError(
            f"{run.backend} trained another number of steps than {run.problem} has",
            f"{len(run.trace.losses)} losses, {problem.steps} steps",
            "find out why with `lockstep verify`",
        )
    run = dataclasses.replace(run, given={**run.given, BATCHES: batches_print(problem)})
    # By a trainer of their own, so that looking at them cannot move the run.
    aside = backend.trainer(problem) if watched.states else None
    stages = {step: _stages(aside, problem, step, state) for step, state in watched.states.items() if aside}
    return Recorded(index, run, moments.stepwise, watched.parameters, stages)


def _stages(trainer: Trainer, problem: Problem, step: int, state: Snapshot) -> dict[str, Array]:
    """The stages of one step."""
    if "state" in (unreachable := out_of_reach(trainer, problem, step)):
        raise BundleError(
            f"the stages of step {step} cannot be recorded", unreachable["state"], "record step 0 only"
        )
    batch = next(itertools.islice(problem.batches(), step, None))
    with np.errstate(all="ignore"):  # what diverges is recorded as it is
        stages = stages_of(trainer, state, batch)
    return {name: value for name, value in stages.items() if not name.startswith("batch/")}


def batches_print(problem: Problem) -> Fingerprint:
    """The fingerprint of all batches: of one epoch where every epoch is the same."""
    batches = problem.batches()
    if problem.batching.shuffle is None and not batches.dropped:
        batches = dataclasses.replace(batches, epochs=1)
    digest = hashlib.sha256()
    for batch in batches:
        for name, array in batch.stages().items():
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return Fingerprint((problem.steps,), problem.dtype, digest.hexdigest())
