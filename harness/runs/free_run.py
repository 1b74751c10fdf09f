"""The free run: a backend trains a problem alone, from the problem's start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from lockstep.backends.adoption import AdoptionError
from lockstep.backends.errors import LockstepError, UndecidedError, raised_in
from lockstep.backends.problem import Batch, Batches, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Recording, State, Trace, Trainer
from lockstep.harness.core.compare import Fingerprint, Run
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.implementation import Implementation

RAISED = (Exception, SystemExit)
"""Exceptions of examined code: a ``sys.exit`` in it ends neither a command, with its status, nor a test suite."""

Fit = Callable[[State, Any, Recording], Trace]
"""The whole run from a state, as `Trainer.fit` makes it."""


def fit_of(trainer: Trainer) -> Fit:
    """How it trains a whole run: its own `fit`, or one step after the other where it has none."""
    return trainer.fit if "fit" in trainer.capabilities else StepByStep(trainer).fit


def train(spec: RunSpec, trainer: Trainer) -> Trace:
    """The whole run, by `fit` where the trainer has it."""
    return fit_of(trainer)(trainer.init(), spec.batches(), LOSSES_ONLY)


def free_run(
    implementation: Implementation,
    spec: RunSpec,
    recording: Recording = LOSSES_ONLY,
    fit: Callable[[Trainer], Fit] = fit_of,
) -> Run:
    """Train `spec`; any failure becomes the run's verdict and reason.

    Args:
        implementation: who trains.
        spec: the run, in its dtype.
        recording: more to record than losses and final parameters.
        fit: how a trainer trains the whole run.
    """
    blank = Run(spec.name, spec.dtype, implementation.name)
    try:
        if refusal := implementation.supports(spec):
            return replace(blank, verdict=Verdict.SKIPPED, reason=refusal.reason)
        return _train(implementation, spec, blank, recording, fit)
    except AdoptionError:  # a user's code that cannot be compared is refused, not judged
        raise
    except UndecidedError as error:
        return replace(blank, verdict=Verdict.INCONCLUSIVE, reason=describe(error))
    except RAISED as error:  # whatever a backend raises is a finding about that backend, not the harness' end
        return replace(blank, verdict=Verdict.ERROR, reason=describe(error))


def _train(
    implementation: Implementation,
    spec: RunSpec,
    blank: Run,
    recording: Recording,
    fit: Callable[[Trainer], Fit],
) -> Run:
    trainer = implementation.trainer(spec)
    given = {name: Fingerprint.of(array) for name, array in trainer.given().items()}
    batches = spec.batches()
    started = time.perf_counter()
    # A diverging run is judged by its numbers; the frameworks do not warn either.
    with np.errstate(over="ignore", invalid="ignore"):
        trace = fit(trainer)(trainer.init(), batches, recording)
    seconds = time.perf_counter() - started
    if not isinstance(spec, Problem):  # a user's own loss may be of another dtype than the parameters
        trace = replace(trace, losses=trace.losses.astype(spec.dtype, copy=False))
    evaluation = None
    if isinstance(spec, Problem) and spec.has_modes:
        evaluation = trainer.predict(trainer.write(trainer.init(), trace.final), spec.batches().x)
    return replace(
        blank,
        trace=trace,
        given=given,
        environment=implementation.environment(),
        seconds=seconds,
        evaluation=evaluation,
    )


class StepByStep:
    """`fit` for a trainer that has none: one `step` after the other."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def fit(self, state: object, batches: Iterable[Batch], recording: Recording) -> Trace:
        per_epoch = batches.per_epoch if isinstance(batches, Batches) else 1
        losses, history = [], [self._trainer.read(state).parameters]
        for index, batch in enumerate(batches, start=1):
            state, loss = self._trainer.step(state, batch)
            losses.append(loss)
            if recording.parameters and index % per_epoch == 0:
                history.append(self._trainer.read(state).parameters)
        recorded = {name: np.stack([past[name] for past in history]) for name in history[0]}
        # Only now: a loss may still be on its way from its device.
        stacked = np.stack([np.asarray(loss) for loss in losses])
        return Trace(stacked, self._trainer.read(state), recorded if recording.parameters else None)


def describe(error: BaseException) -> str:
    """An exception as one reason: our own as they stand, others with where they were raised."""
    if isinstance(error, LockstepError):
        return f"{error.what}: {error.got}"
    return f"{type(error).__name__}: {error}{raised_in(error)}"
