"""The stages of recorded steps, computed again from the recorded state and with the recorded gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from lockstep import backends as registry
from lockstep.backends.problem import Arrays, Problem
from lockstep.backends.protocol import Backend, Trainer
from lockstep.harness.bundle import Recorded
from lockstep.harness.bundle.content import under
from lockstep.harness.core.compare import Comparison
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.wording import place_of
from lockstep.harness.numerics.limits import Limits, fixed_limits, gradients
from lockstep.harness.numerics.measured import measured_limits
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.stages import out_of_reach, snapshot_of, stages_of
from lockstep.harness.runs.workers import Chosen


def restaged(problem: Problem, recorded: Recorded, chosen: Chosen, given: Tolerance | None) -> Ledger:
    """Every recorded stage (left) against the same stage computed here (right); nothing where none was recorded.

    Args:
        problem: what is trained.
        recorded: the run.
        chosen: who computes here; it has trained.
        given: a tolerance instead of measured limits.
    """
    if not recorded.stages:
        return Ledger(())
    backend = registry.load(chosen) if isinstance(chosen, str) else chosen
    trainer, limits = backend.trainer(problem), _limits(problem, backend, given)
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        rows = (
            row
            for step, stages in sorted(recorded.stages.items())
            for row in _step(problem, trainer, step, stages, limits, given)
        )
        return Ledger(tuple(rows))


def summaries(ledger: Ledger, problem: RunSpec, names: tuple[str, str]) -> Iterator[Comparison]:
    """One comparison for the stages of each recorded step."""
    for step in ledger.steps:
        one = Ledger(tuple(row for row in ledger.rows if row.step == step))
        yield Comparison(
            problem.name,
            problem.dtype,
            *names,
            f"stages of step {step}",
            one.verdict,
            reason=_reason(one),
            elements=len(one.rows),
            failing=sum(row.verdict is Verdict.DIFFER for row in one.rows),
        )


def _reason(one: Ledger) -> str:
    if one.verdict is Verdict.AGREE:
        return ""
    row = next((row for row in (*one.blamed, *one.rows) if row.verdict is one.verdict), None)
    return f"{place_of(row)}: {row.reason}" if row else "no stage could be compared"


def _limits(problem: Problem, backend: Backend, given: Tolerance | None) -> Limits:
    """From the reference, which is not what is examined; from the backend itself where that cannot train the problem."""
    reference = registry.load(registry.REFERENCE)
    trainer = (reference if reference.supports(problem) is None else backend).trainer(problem)
    return measured_limits(problem, trainer) if given is None else fixed_limits(problem, trainer)


def _step(
    problem: Problem, trainer: Trainer, step: int, ours: Arrays, limits: Limits, given: Tolerance | None
) -> list[Row]:
    batch = next(itertools.islice(problem.batches(), step, None))
    try:
        snapshot = snapshot_of(under("state/", ours))
        theirs = stages_of(trainer, snapshot, batch, gradients(ours))
        passes = limits(snapshot, batch) if given is None or given.kind == "fixed" else _given(ours, given)
    except (
        Exception
    ) as error:  # what a backend makes of a state that may be damaged is a finding, not the end
        return [Row(step, "step", Verdict.ERROR, describe(error))]
    kinds = {name.partition("/")[0] for name in ours}  # not all were within the recorder's reach
    seen = {name: value for name, value in theirs.items() if name.partition("/")[0] in kinds}
    # An archive is in the order of its names; who is to blame is told by the order of computation.
    ordered = {name: ours[name] for name in (*seen, *ours) if name in ours}
    return compare_stages(step, ordered, seen, passes, out_of_reach(trainer, problem, step))


def _given(stages: Arrays, given: Tolerance) -> dict[str, float]:
    """The user's tolerance, of each stage's largest magnitude."""
    return {
        name: given.atol + given.rtol * float(np.abs(value.astype(np.float64)).max(initial=0.0))
        for name, value in stages.items()
    }
