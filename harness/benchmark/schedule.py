"""Repetitions of many candidates in turn, so that the machine's drift hits all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lockstep.harness.benchmark.sample import Failure, Sample

Candidate = TypeVar("Candidate")


@dataclass
class Repeated(Generic[Candidate]):
    """The measurements of each candidate.

    Attributes:
        samples: every repetition.
        failures: why a candidate was given up.
        rounds: how many were begun.
        interrupted: whether the user ended it.
    """

    samples: dict[Candidate, list[Sample]]
    failures: dict[Candidate, str] = field(default_factory=dict)
    rounds: int = 0
    interrupted: bool = False


def repeat(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate, float | None], Sample | Failure],
    enough: Callable[[Sequence[Sample]], bool],
    limit: float,
    each_round: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Repeated[Candidate]:
    """Measure every candidate once a round, in an order of its own, until each has enough or the time is over.

    Every candidate gets one repetition, however long it takes; later ones begin only if they will end in time. An interrupt
    ends the measuring; finished repetitions stay.

    Args:
        candidates: what is measured.
        measure: one repetition; it gets how many seconds are left, None in the first round.
        enough: whether repetitions suffice.
        limit: seconds.
        each_round: what is done at the beginning of a round.
        clock: seconds since a fixed time.
    """
    repeated = Repeated[Candidate]({one: [] for one in candidates})
    begun, took = clock(), dict.fromkeys(candidates, 0.0)
    try:
        while waiting := _waiting(repeated, enough, took, limit - (clock() - begun)):
            each_round()
            random.Random(repeated.rounds).shuffle(waiting)
            repeated.rounds += 1
            for one in waiting:
                left = None if repeated.rounds == 1 else limit - (clock() - begun)
                if left is not None and took[one] > left:
                    continue
                started = clock()
                _store(repeated, one, measure(one, left), last=left is not None)
                took[one] = clock() - started
    except KeyboardInterrupt:
        repeated.interrupted = True
    return repeated


def _waiting(
    repeated: Repeated[Candidate],
    enough: Callable[[Sequence[Sample]], bool],
    took: dict[Candidate, float],
    left: float,
) -> list[Candidate]:
    return [
        one
        for one, samples in repeated.samples.items()
        if one not in repeated.failures and not (samples and (enough(samples) or took[one] > left))
    ]


def _store(repeated: Repeated[Candidate], one: Candidate, outcome: Sample | Failure, last: bool) -> None:
    """Store a repetition; one that the time limit cut off does not invalidate those before it."""
    if isinstance(outcome, Sample):
        repeated.samples[one].append(outcome)
    elif not (last and repeated.samples[one]):
        repeated.failures[one] = outcome.reason
