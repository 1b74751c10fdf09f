"""Exchange: one side goes on from the other's values, so that a second difference does not hide behind the first."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from lockstep.backends.problem import Arrays, Problem
from lockstep.backends.protocol import Trainer, select
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.wording import place_of
from lockstep.harness.numerics.limits import Limits
from lockstep.harness.runs.stages import stages_of

INJECTED = ("forward", "cotangent")
EXCHANGED = ("forward", "loss", "cotangent", "gradient")
"""Kinds of stage that are computed from injected ones."""


def exchange(problem: Problem, reference: Trainer, other: Trainer, step: int, limits: Limits) -> Ledger:
    """One step's forward and backward stages, each computed by `other` from the reference's activations and cotangents.

    Args:
        problem: what is trained.
        reference, other: two trainers of it; nothing is exchanged if the other has no capability ``inject``.
        step: which, from 0.
        limits: the largest distance that passes, by stage.
    """
    if "inject" not in other.capabilities:
        return Ledger(())
    with np.errstate(all="ignore"):  # what diverges is judged by its numbers
        state = reference.init()
        for batch in itertools.islice(problem.batches(), step):
            state, _ = reference.step(state, batch)
        snapshot, batch = reference.read(state), next(itertools.islice(problem.batches(), step, None))
        ours = stages_of(reference, snapshot, batch)
        started = other.write(other.init(), snapshot)
        theirs = other.observe(started, batch, EXCHANGED, select(ours, INJECTED))
        rows = compare_stages(step, _exchanged(ours), _exchanged(theirs), limits(snapshot, batch))
    return Ledger(tuple(dataclasses.replace(row, follows="") for row in rows))


def _exchanged(stages: Arrays) -> Arrays:
    return select(stages, EXCHANGED)


def told(first: Row, exchanged: Ledger, ledger: Ledger, name: str) -> str:
    """What the exchange shows, in words; empty where nothing was exchanged.

    Args:
        first: where the sides part.
        exchanged: of `exchange`, at that step.
        ledger: of the lockstep run, in which the optimizer was given the reference's gradients.
        name: the reference's.
    """
    later = [row for row in ledger.rows if row.step == first.step and row.kind in ("update", "parameters")]
    differing = [row for row in (*exchanged.rows, *later) if row.verdict is Verdict.DIFFER]
    others = [place_of(row) for row in differing if row.name != first.name]
    if not exchanged.rows:
        return ""
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return f"given {name}'s values and gradients, {others[0]}{more} differs as well"
    return f"given {name}'s values and gradients, every other stage of the step agrees"
