"""One run that is recorded, whoever trains it."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot, Trainer
from lockstep.harness.adopt.extra import recorded_extra
from lockstep.harness.bundle import BundleError, Recorded
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.runs.free_run import describe, fit_of, free_run
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.recorder import RecordedSteps, Recorder
from lockstep.harness.runs.stages import out_of_reach, stages_of


def record_run(
    implementation: Implementation, spec: RunSpec, steps: RecordedSteps, kinds: Collection[str], fix: str
) -> Recorded:
    """One run, whoever trains it, and what is recorded of it.

    Args:
        implementation: who trains.
        spec: what, in its dtype.
        steps: at which steps more than the losses is recorded.
        kinds: which kinds of stage.
        fix: what to do where it does not train.

    Raises:
        BundleError: it did not train, or its stages cannot be recorded.
    """
    recorder = Recorder(steps)
    run = free_run(implementation, spec, fit=recorder if steps.stepwise else fit_of)
    if run.trace is None:
        raise BundleError(
            f"{run.backend} did not train {run.problem} {run.dtype}", run.reason, run.fix or fix
        )
    if len(run.trace.losses) != spec.steps:
        raise BundleError(
            f"{run.backend} trained another number of steps than {run.problem} has",
            f"{len(run.trace.losses)} losses, {spec.steps} steps",
            "find out why with `lockstep verify`",
        )
    # By a trainer of their own, so that looking at them cannot move the run.
    aside = implementation.trainer(spec) if recorder.states else None
    stages = {
        step: _stages(aside, spec, step, state, kinds) for step, state in recorder.states.items() if aside
    }
    return Recorded(0, run, steps.stepwise, recorder.parameters, stages)


def _stages(
    trainer: Trainer, spec: RunSpec, step: int, state: Snapshot, kinds: Collection[str]
) -> dict[str, Array]:
    """The stages of one step."""
    what = f"the stages of step {step} cannot be recorded"
    if "state" in (unreachable := out_of_reach(trainer, spec, step)):
        raise BundleError(what, unreachable["state"], "record step 0 only")
    batch = next(itertools.islice(spec.batches(), step, None))
    try:
        with np.errstate(all="ignore"):  # what diverges is recorded as it is
            stages = stages_of(trainer, state, batch)
    except LockstepError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise BundleError(what, describe(error), "record no stages of it") from error
    return {
        recorded: value
        for name, value in stages.items()
        if name.partition("/")[0] in kinds and (recorded := _recorded(name)) is not None
    }


def _recorded(stage: str) -> str | None:
    """The name under which a stage is recorded; None where it is not."""
    prefix = "state/extra/"
    if not stage.startswith(prefix):
        return stage
    name = recorded_extra(stage.removeprefix(prefix))
    return None if name is None else f"{prefix}{name}"
