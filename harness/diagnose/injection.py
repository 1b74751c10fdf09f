"""Injection: one side continues from the other's values, so that a second difference does not hide behind the first."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Trainer, select
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.wording import place_of
from lockstep.harness.runs.lockstep_run import StageLimits, aligned
from lockstep.harness.runs.stages import stages_of

INJECTED = ("forward", "cotangent")
COMPUTED = ("forward", "loss", "cotangent", "gradient")
"""Kinds of stage that are computed from injected ones."""


def inject(spec: RunSpec, reference: Trainer, other: Trainer, step: int, limits: StageLimits) -> Ledger:
    """One step's forward and backward stages, each computed by `other` from the reference's activations and cotangents.

    Args:
        spec: the run.
        reference, other: two trainers of it; nothing is injected if the other has no capability ``inject``.
        step: its number, from 0.
        limits: the largest distance that passes, by stage.
    """
    if "inject" not in other.capabilities:
        return Ledger(())
    with np.errstate(all="ignore"):  # a diverging step is judged by its numbers
        state = reference.init()
        for batch in itertools.islice(spec.batches(), step):
            state, _ = reference.step(state, batch)
        snapshot, batch = reference.read(state), next(itertools.islice(spec.batches(), step, None))
        ours = stages_of(reference, snapshot, batch)
        started = other.write(other.init(), snapshot)
        theirs = other.observe(started, batch, COMPUTED, select(ours, INJECTED))
        left, right, unreachable = aligned(other, _computed(ours), _computed(theirs))
        rows = compare_stages(step, left, right, limits(snapshot, batch), unreachable)
    return Ledger(tuple(dataclasses.replace(row, follows="") for row in rows))


def _computed(stages: Arrays) -> Arrays:
    return select(stages, COMPUTED)


def describe(first: Row, injected: Ledger, ledger: Ledger, name: str) -> str:
    """The result of the injection in words; empty where nothing was injected.

    Args:
        first: where the sides first differ.
        injected: of `inject`, at that step.
        ledger: of the lockstep run, in which the optimizer had the reference's gradients.
        name: the reference's.
    """
    later = [row for row in ledger.rows if row.step == first.step and row.kind in ("update", "parameters")]
    differing = [row for row in (*injected.rows, *later) if row.verdict is Verdict.DIFFER]
    others = [place_of(row) for row in differing if row.name != first.name]
    if not injected.rows:
        return ""
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return f"given {name}'s values and gradients, {others[0]}{more} differs as well"
    return f"given {name}'s values and gradients, every other stage of the step agrees"
