"""The stages of recorded steps, computed here from the recorded state and with the recorded gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lockstep.backends.problem import Arrays, Batch
from lockstep.backends.protocol import Snapshot
from lockstep.harness.bundle import Recorded
from lockstep.harness.core.compare import Comparison
from lockstep.harness.core.ledger import Ledger
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.wording import place_of
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.lockstep_run import StageLimits, lockstep_run


def replay_stages(
    spec: RunSpec,
    recorded: Recorded,
    implementation: Implementation,
    limits: Callable[[Implementation], StageLimits],
    given: Tolerance | None,
) -> Ledger:
    """Every recorded stage (left) and the same stage computed here (right); nothing where none was recorded.

    Args:
        spec: what is trained.
        recorded: the run.
        implementation: who computes here; it has trained.
        limits: (who computes here) -> how far the stages of one step may be apart.
        given: the user's own tolerance instead.
    """
    if not recorded.stages:
        return Ledger(())
    trainer = implementation.trainer(spec)
    measured = limits(implementation) if given is None or given.kind == "fixed" else None
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        rows = (
            row
            for step, stages in sorted(recorded.stages.items())
            for row in lockstep_run(
                spec, recorded, trainer, [step], measured or _given(stages, given)
            ).ledger.rows
        )
        return Ledger(tuple(rows))


def _given(stages: Arrays, given: Tolerance | None) -> StageLimits:
    """The user's tolerance, of each stage's largest magnitude."""
    assert given is not None
    rtol, atol = given.rtol, given.atol
    scales = {
        name: float(np.abs(value.astype(np.float64)).max(initial=0.0)) for name, value in stages.items()
    }

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        return {name: atol + rtol * scale for name, scale in scales.items()}

    return limits


def summaries(ledger: Ledger, spec: RunSpec, names: tuple[str, str]) -> Iterator[Comparison]:
    """One comparison for the stages of each recorded step."""
    for step in ledger.steps:
        one = Ledger(tuple(row for row in ledger.rows if row.step == step))
        yield Comparison(
            spec.name,
            spec.dtype,
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
