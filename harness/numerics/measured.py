"""Limits of stages and of whole runs, measured by twins where the reference has them, and never narrower than the fixed ones.

`lockstep.harness.numerics.limits` and `lockstep.harness.numerics.growth` disturb what a step or a run starts from. Twins disturb every operation on the way, that of
hyperparameters included: 1 − βᵗ formed in float32 is within these limits, as it is within the budget of a free run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from lockstep import backends
from lockstep.backends.problem import Array, Batch, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Disturbable, DisturbedStep, Snapshot, Trainer
from lockstep.harness.numerics.budget import MULTIPLE, deviation, twins_for
from lockstep.harness.numerics.growth import LOSS, Course, Train, course, growth_limits
from lockstep.harness.numerics.limits import Limits, fixed_limits, gradients
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.stages import fields, stages_of

SEED = 0


def measured_limits(problem: Problem, trainer: Trainer) -> Limits:
    """How far the stages of one step may be apart."""
    fixed = fixed_limits(problem, trainer)
    twin = _disturbable(problem)
    if twin is None:
        return fixed

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        exact = stages_of(twin, snapshot, batch)
        found = twin.disturbed_step(snapshot, batch, gradients(exact), twins_for(problem), SEED)
        return _widened(fixed(snapshot, batch), exact, _stages(found, snapshot))

    return limits


def measured_growth(problem: Problem, train: Train) -> Course:
    """How far apart rounding can bring two whole runs, by quantity, of each quantity's shape."""
    room = dict(growth_limits(problem, train))
    twin = _disturbable(problem)
    if twin is None:
        return room
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        exact = course(StepByStep(twin).fit(twin.init(), problem.batches(), LOSSES_ONLY))
        found = twin.disturbed(problem.batches(), twins_for(problem), SEED)
        twins = course(found.trace)
        for name, value in exact.items():
            # The side that is compared against may have trained another number of steps.
            if name in room and room[name].shape == value.shape:
                spread = deviation(twins[name], value)
                widest = spread if name == LOSS else spread.max(initial=0.0)
                room[name] = np.maximum(room[name], MULTIPLE * widest)
    return room


def _disturbable(problem: Problem) -> Disturbable | None:
    """The registered reference, whoever the diagnosis is against: what is disturbed must be what is right."""
    reference = backends.load(backends.REFERENCE)
    return cast("Disturbable", reference.trainer(problem)) if reference.supports(problem) is None else None


def _widened(
    fixed: Mapping[str, float], exact: Mapping[str, Array], twins: Mapping[str, Array]
) -> dict[str, float]:
    wider = dict(fixed)
    for name in fixed.keys() & exact.keys() & twins.keys():
        spread = float(deviation(twins[name], exact[name]).max(initial=0.0))
        wider[name] = max(fixed[name], MULTIPLE * spread)
    return wider


def _stages(step: DisturbedStep, before: Snapshot) -> dict[str, Array]:
    """A disturbed step under the names that `stages_of` gives."""
    injected = {name: value for name, value in fields(step.injected).items() if name != "count"}
    updates = {
        f"update/{name}": value - before.parameters[name] for name, value in step.injected.parameters.items()
    }
    undivided = {f"step/{name}": value for name, value in fields(step.undivided).items() if name != "count"}
    computed = {name: value for name, value in step.stages.items() if not name.startswith("batch/")}
    return {**computed, **injected, **updates, **undivided, "step/loss": step.stages["loss"]}
