"""The search for a precision at which a whole trajectory is enclosed: run, see how the balls widen, run again."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from flint import ctx

from lockstep.backends.errors import IllPosedError, UndecidedError
from lockstep.backends.exact.array import BallArray
from lockstep.backends.exact.ball import Ball, Undecided, working
from lockstep.backends.exact.enclosure import Attempt, Enclosure
from lockstep.backends.exact.precision import (
    FIRST,
    MARGIN,
    TARGET,
    accuracy,
    largest,
    predicted,
    scales,
)
from lockstep.backends.numpy_vjp.backend import NumPyTrainer, State
from lockstep.backends.problem import Array, Batches
from lockstep.backends.protocol import Recording

HOPELESS = 500
"""Bits of accuracy at which numbers whose comparison is still undecided are taken for equal."""

ENCLOSED, TOO_WIDE, UNTIMELY, NOT_FINITE = "enclosed", "too wide", "out of time", "not finite"


class NotEnclosed(UndecidedError):  # noqa: N818 (a state of knowledge, not a fault)
    """The trajectory was not enclosed in the time that there was."""


class NoValue(IllPosedError):  # noqa: N818 (a state of things, not a fault)
    """Two numbers that are compared are equal, or one is not finite: no precision helps."""


@dataclass
class Run:
    """One attempt as it goes.

    Attributes:
        state: after the last step taken.
        losses: of the steps taken.
        lost_bits: how many were lost by then at each of them, by the loss or a parameter, whichever lost more.
        history: the parameters before the first epoch and after each, if they are kept.
        outcome: one of the above, or the comparison that was not decided.
    """

    state: State
    losses: list[Ball] = field(default_factory=list)
    lost_bits: list[float] = field(default_factory=list)
    history: list[dict[str, Array]] = field(default_factory=list)
    outcome: str = ENCLOSED


def search(
    make: Callable[[], NumPyTrainer],
    start: State,
    batches: Batches,
    recording: Recording,
    dtype: str,
    limit: float,
) -> Enclosure:
    """The trajectory from `start`, every loss and final parameter enclosed to 2^−TARGET of its scale.

    Args:
        make: the chain over balls; anew at each precision, since it holds balls too (constants, memos).
        start: the state before the first step; its balls should be exact.
        batches: of the whole run.
        recording: whether to keep the parameters of every epoch.
        dtype: of the problem.
        limit: seconds for all attempts together.

    Raises:
        NotEnclosed: the limit was hit.
        NoValue: two numbers that are compared are equal, or one is not finite.
    """
    eps, deadline = float(np.finfo(dtype).eps), time.perf_counter() + limit
    attempts: list[Attempt] = []
    bits = FIRST
    while True:
        started = time.perf_counter()
        with working(bits, eps), _uncollected():
            run = _run(make(), start, batches, recording, deadline)
        attempts.append(Attempt(bits, len(run.losses), time.perf_counter() - started, run.outcome))
        if run.outcome == ENCLOSED:
            losses = np.array(run.losses, dtype=object).view(BallArray)
            return Enclosure(losses, run.state, tuple(run.history), dtype, tuple(attempts))
        _refuse_hopeless(run, attempts, len(batches), limit)
        bits = _next(bits, run, len(batches))
        _refuse_untimely(attempts[-1], bits, len(batches), deadline - time.perf_counter())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the search for reference cycles: balls form none, and walking over all of them takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _run(trainer: NumPyTrainer, start: State, batches: Batches, recording: Recording, deadline: float) -> Run:
    """One attempt, given up at the first loss that is too wide."""
    run = Run(start, history=[start.parameters] if recording.parameters else [])
    for index, batch in enumerate(batches, start=1):
        try:
            state, loss = trainer.step(run.state, batch)
            run.outcome = _take(run, state, Ball.of(loss), last=index == len(batches))
        except Undecided as error:
            run.outcome = error.got
        if run.outcome == ENCLOSED and time.perf_counter() > deadline:
            run.outcome = UNTIMELY
        if run.outcome != ENCLOSED:
            return run
        if recording.parameters and index % batches.per_epoch == 0:
            run.history.append(state.parameters)
    return run


def _take(run: Run, state: State, loss: Ball, last: bool) -> str:
    """Take a step into the run; the outcome so far."""
    first = run.losses[0] if run.losses else loss
    of_loss = accuracy([loss], largest([loss.value, first.value]))
    of_leaves = [
        accuracy(state.parameters[name].flat, scale) for name, scale in scales(state.parameters).items()
    ]
    enclosed = min(of_loss, *of_leaves)
    if enclosed == -math.inf:
        return NOT_FINITE
    run.state = state
    run.losses.append(loss)
    run.lost_bits.append(max(0.0, ctx.prec - enclosed))
    return TOO_WIDE if of_loss < TARGET or (last and enclosed < TARGET) else ENCLOSED


def _next(bits: int, run: Run, steps: int) -> int:
    """The precision of the next attempt: what the widening foretells, or twice as much where it is not to blame."""
    least = bits + MARGIN if run.outcome == TOO_WIDE else 2 * bits
    return max(predicted(run.lost_bits, steps), least)


def _refuse_hopeless(run: Run, attempts: list[Attempt], steps: int, limit: float) -> None:
    """Raise where another attempt has no time, or no hope."""
    last = attempts[-1]
    if run.outcome == UNTIMELY:
        tried = ", ".join(f"{one.steps} steps at {one.bits} bits" for one in attempts)
        raise NotEnclosed(
            f"the trajectory of {steps} steps was not enclosed in {limit:g} s",
            tried,
            "raise the limit: ExactBackend(limit=seconds), or train for fewer epochs",
        )
    enclosed = last.bits - (run.lost_bits[-1] if run.lost_bits else 0.0)
    if run.outcome != TOO_WIDE and enclosed > HOPELESS:
        why = "the loss or a parameter is not finite" if run.outcome == NOT_FINITE else "numbers are equal"
        raise NoValue(
            f"step {last.steps + 1} has no certified value: {why}, as far as {enclosed:.0f} bits show",
            run.outcome,
            "start elsewhere, or train for fewer epochs: no precision separates equal numbers",
        )


def _refuse_untimely(last: Attempt, bits: int, steps: int, left: float) -> None:
    """Raise a NotEnclosed where the next attempt would not end in time."""
    # A step's time grows about as the root of its precision between 100 and 2,000 bits.
    wanted = last.seconds / max(1, last.steps) * steps * math.sqrt(bits / last.bits)
    if wanted > left:
        raise NotEnclosed(
            f"the trajectory would take about {wanted:.0f} s more, and {max(left, 0):.0f} s are left",
            f"{last.steps} of {steps} steps at {last.bits} bits; {bits} bits are needed",
            "raise the limit: ExactBackend(limit=seconds), or train for fewer epochs",
        )
