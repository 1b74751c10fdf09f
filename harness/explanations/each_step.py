"""Numbers that are read off the update of every step: they are kept, and the arrays are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.harness.explanations.changes import global_norm
from lockstep.harness.explanations.evidence import Evidence, StepNumbers
from lockstep.harness.explanations.ratios import Compared, Pair, arrays_of, common_ratio, compared, largest
from lockstep.harness.runs.observed import Observed

LEAST_NUMBERS = 8
"""Numbers that must move for one to be read off each step: a ratio at each step is a fit to anything where few do."""

SHARE = 1e-3
"""How near the difference of updates must be to one share of all parameters."""

MIXED = 0.05
"""The same where each step has a share of its own, and another cause may add to it: training decides what that leaves.

Measured on updates of AdamW under a schedule: 1e-4 where a clip adds 1e-6 to its norm, too; more than 0.6 where nothing decays.
"""


def read_steps(evidence: Evidence, steps: Iterable[Observed]) -> tuple[StepNumbers, ...]:
    """What each step shows by itself.

    Args:
        evidence: of the disagreement.
        steps: of both sides, from equal state and gradients.
    """
    return tuple(_read(dataclasses.replace(evidence, observed=one), one.step) for one in steps)


def _read(at_step: Evidence, step: int) -> StepNumbers:
    comparison = compared(at_step, "update")
    norm = global_norm(at_step.stages("gradient")[0])
    moved = sum(one.left.size for one in comparison.pairs.values() if one.scale > one.noise)
    if not comparison.differing or moved < LEAST_NUMBERS:
        return StepNumbers(step, norm)
    share = decay_share(comparison, at_step, MIXED)
    return StepNumbers(step, norm, comparison.common, share, tuple(decayed(comparison, at_step)))


def decay_share(comparison: Compared, evidence: Evidence, near: float = SHARE) -> float | None:
    """The share of all parameters by which the updates differ; None where there is none, or they do not differ."""
    known = before(evidence)
    shares = [
        Pair(known[name], one.right - one.left, one.noise)
        for name, one in comparison.differing.items()
        if largest(known[name])
    ]
    return common_ratio(shares, closeness(shares, near))


def decayed(comparison: Compared, evidence: Evidence) -> list[str]:
    """The parameters that a decay moves otherwise: those that differ and are not zero."""
    known = before(evidence)
    return [name for name in comparison.differing if largest(known[name])]


def closeness(pairs: list[Pair], near: float) -> float:
    """`near` times the right sides' size, relative to the left ones'."""
    scale = max((one.scale for one in pairs), default=0.0)
    distance = max((largest(one.right) for one in pairs), default=0.0)
    return near * distance / scale if scale else 0.0


def before(evidence: Evidence) -> Arrays:
    """Parameters and buffers before the observed step, in double."""
    assert evidence.observed is not None
    return {name: value.astype(np.float64) for name, value in arrays_of(evidence.observed.before).items()}
