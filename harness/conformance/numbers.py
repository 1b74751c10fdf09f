"""The results: a backend agrees with the reference, and its twins are twins of its own run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from lockstep import backends
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import LOSSES_ONLY, Backend, Disturbable, Trainer, Unsupported
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.subject import Subject
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import fit_of
from lockstep.harness.verification.parity import verify

TWINS = 8


class Reference:
    """The reference under a name of its own, for the reference itself is checked as well."""

    def __init__(self, of: str) -> None:
        self._backend: Backend = backends.load(backends.REFERENCE)
        self.name = f"reference of {of}"

    def supports(self, problem: Problem) -> Unsupported | None:
        return self._backend.supports(problem)

    def trainer(self, problem: Problem) -> Trainer:
        return self._backend.trainer(problem)

    def environment(self) -> Mapping[str, str | int | bool]:
        return self._backend.environment()


def agrees(subject: Subject) -> None:
    """Losses, parameters, averages and predictions of a whole run, within what rounding can do."""
    backend = subject.backend
    result = verify(
        subject.problem, backends=[Reference(backend.name), backend], dtypes=[subject.problem.dtype]
    )
    expect(result.verdict is Verdict.AGREE, "AGREE with the reference", result.census())


def twins(subject: Subject) -> None:
    """As many as were asked for, around the run itself, no two the same, and the same for one seed."""
    trainer, batches = cast(Disturbable, subject.trainer), subject.problem.batches()
    losses = trainer.disturbed(batches, TWINS, 0).trace.losses
    shape = (TWINS, subject.problem.steps)
    expect(losses.shape == shape, f"losses of shape {shape}", losses.shape)
    expect(losses.dtype == np.float64, "float64, in which twins can be distinguished", losses.dtype)
    plain = fit_of(trainer)(trainer.init(), batches, LOSSES_ONLY).losses.astype(np.float64)
    # Disturbed within rounding at each of some hundred operations.
    off = float((np.abs(losses - plain) / np.abs(plain).max()).max())
    expect(off < 100 * subject.close, f"twins within {100 * subject.close:.1g} of the run itself", off)
    expect(len(np.unique(losses[:, -1])) > 1, "twins that differ from each other", losses[:, -1])
    again = trainer.disturbed(batches, TWINS, 0).trace.losses
    expect(bool((losses == again).all()), "the same twins for the same seed", "others")
