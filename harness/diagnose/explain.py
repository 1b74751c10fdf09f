"""Which explanation is confirmed: the reference, altered by it, trains what the suspect trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Backend, Trace
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.explanations import EXPLANATIONS, variants_of
from lockstep.harness.numerics.growth import (
    Course,
    compare_courses,
    course,
    growth_limits,
    rounding_limits,
)
from lockstep.harness.runs.continuation import train
from lockstep.harness.runs.variant import Variant, train_variant

EPOCHS_AFTER = 10
"""Epochs that a variant trains past the first difference: enough to tell, few enough that rounding has not grown."""


@dataclass(frozen=True)
class Confirmed:
    """An explanation under which the disagreement vanishes.

    Attributes:
        name: of the explanation.
        does: what the suspect does, to go after its name.
    """

    name: str
    does: str


def explain(problem: Problem, witness: Backend, suspect: Backend, step: int) -> Confirmed | None:
    """The first explanation that makes the witness train what the suspect trains, or None.

    Args:
        problem: what both train.
        witness: the backend that is believed to be right.
        suspect: the one that is not.
        step: where they were first seen to part.
    """
    per_epoch = problem.batches().per_epoch
    problem = problem.replace(epochs=min(problem.epochs, step // per_epoch + 1 + EPOCHS_AFTER))
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        problem = problem.replace(epochs=_finite_epochs(train(problem, suspect.trainer(problem)), problem))
        adopted = suspect.trainer(problem)
        seen = course(train(problem, adopted))
        room = growth_limits(problem, lambda near: train(near, witness.trainer(near)))
        if _trains(witness, Variant("", problem), seen, room):
            return None  # nothing to explain within these epochs
        initial = adopted.read(adopted.init()).parameters
        for explanation in EXPLANATIONS:
            for variant in variants_of(explanation, problem, initial):
                if _trains(witness, variant, seen, room):
                    return Confirmed(explanation.name, variant.does)
    return None


def _finite_epochs(trace: Trace, problem: Problem) -> int:
    """The epochs before a loss is not finite, less the one whose update may be why; at least one."""
    lost = ~np.isfinite(trace.losses)
    if not lost.any():
        return problem.epochs
    return max(1, int(lost.argmax()) // problem.batches().per_epoch - 1)


def _trains(witness: Backend, variant: Variant, seen: Course, room: Course) -> bool:
    """Whether the altered witness trains what was seen of the suspect.

    Args:
        room: what rounding grows to in the unaltered run. That of a variant which itself rounds coarsely would let
            anything pass.
    """
    try:
        if witness.supports(variant.problem) is not None:
            return False
        ours = course(train_variant(variant, witness.trainer(variant.problem)))
    except Exception:  # what the witness cannot train explains nothing
        return False
    widest = {name: limit.max(initial=0.0) for name, limit in room.items()}
    limits = {
        name: np.maximum(limit, widest.get(name, 0.0))
        for name, limit in rounding_limits(variant.problem.dtype, ours).items()
    }
    found = compare_courses(ours, seen, limits)
    return all(row.verdict is Verdict.AGREE for row in found.rows)
