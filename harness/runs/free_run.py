"""The free run: a backend trains a problem alone, from the problem's start."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import numpy as np

from lockstep.backends.errors import LockstepError, UndecidedError
from lockstep.backends.problem import Batches, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Backend, Recording, State, Trace, Trainer
from lockstep.harness.core.compare import Fingerprint, Run
from lockstep.harness.core.verdict import Verdict

RAISED = (Exception, SystemExit)
"""What code that is examined may raise: a ``sys.exit`` in it ends neither a command, with its status, nor a test suite."""

Fit = Callable[[State, Batches, Recording], Trace]
"""The whole run from a state, as `Trainer.fit` makes it."""


def fit_of(trainer: Trainer) -> Fit:
    """How it trains a whole run: its own `fit`, or one step after the other where it has none."""
    return trainer.fit if "fit" in trainer.capabilities else StepByStep(trainer).fit


def free_run(
    backend: Backend,
    problem: Problem,
    recording: Recording = LOSSES_ONLY,
    fit: Callable[[Trainer], Fit] = fit_of,
) -> Run:
    """Train `problem` on `backend`; whatever goes wrong there becomes the run's verdict and reason.

    Args:
        backend: who trains.
        problem: what, in its dtype.
        recording: what to keep beside losses and final parameters.
        fit: how a trainer trains the whole run.
    """
    try:
        if refusal := backend.supports(problem):
            return Run(problem.name, problem.dtype, backend.name, Verdict.SKIPPED, refusal.reason)
        return _train(backend, problem, recording, fit)
    except UndecidedError as error:
        return Run(problem.name, problem.dtype, backend.name, Verdict.INCONCLUSIVE, describe(error))
    except RAISED as error:  # whatever a backend raises is a finding about that backend, not the harness' end
        return Run(problem.name, problem.dtype, backend.name, Verdict.ERROR, describe(error))


def _train(backend: Backend, problem: Problem, recording: Recording, fit: Callable[[Trainer], Fit]) -> Run:
    trainer = backend.trainer(problem)
    given = {name: Fingerprint.of(array) for name, array in trainer.given().items()}
    batches = problem.batches()
    started = time.perf_counter()
    # A diverging run is judged by its numbers; the frameworks do not warn either.
    with np.errstate(over="ignore", invalid="ignore"):
        trace = fit(trainer)(trainer.init(), batches, recording)
    seconds = time.perf_counter() - started
    evaluation = None
    if problem.has_modes:
        evaluation = trainer.predict(trainer.write(trainer.init(), trace.final), batches.x)
    return Run(
        problem.name,
        problem.dtype,
        backend.name,
        trace=trace,
        given=given,
        environment=backend.environment(),
        seconds=seconds,
        evaluation=evaluation,
    )


class StepByStep:
    """`fit` for a trainer that has none: one `step` after the other."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def fit(self, state: object, batches: Batches, recording: Recording) -> Trace:
        losses, history = [], [self._trainer.read(state).parameters]
        for index, batch in enumerate(batches, start=1):
            state, loss = self._trainer.step(state, batch)
            losses.append(np.asarray(loss))
            if recording.parameters and index % batches.per_epoch == 0:
                history.append(self._trainer.read(state).parameters)
        recorded = {name: np.stack([past[name] for past in history]) for name in history[0]}
        return Trace(np.stack(losses), self._trainer.read(state), recorded if recording.parameters else None)


def describe(error: BaseException) -> str:
    """An exception as one reason: our own as they stand, others with where they were raised."""
    if isinstance(error, LockstepError):
        return f"{error.what}: {error.got}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
