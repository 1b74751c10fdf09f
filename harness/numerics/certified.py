"""Each backend's own error: the distance of its run from the true trajectory, which ball arithmetic encloses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lockstep import backends
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Certifying, Errors, Truth
from lockstep.harness.core.compare import Run
from lockstep.harness.numerics.budget import LONG, Notify, no_op


@dataclass(frozen=True)
class Certified:
    """The backends' errors on one problem in one dtype.

    Attributes:
        errors: by backend; only of runs with the problem's losses and parameters.
        bits: the precision at which the trajectory was enclosed; 0 where it was not.
        seconds: how long that took.
        reason: why there are no errors; empty where there are.
    """

    errors: Mapping[str, Errors] = field(default_factory=dict)
    bits: int = 0
    seconds: float = 0.0
    reason: str = ""


def truth_of(problem: Problem, notify: Notify = no_op) -> Truth | str:
    """The true trajectory; or why there is none: the extra is absent, it would take too long, no precision suffices."""
    try:
        backend: Certifying = backends.load(backends.CERTIFIED)  # type: ignore[assignment]
        refusal = backend.supports(problem)
        if refusal:
            return refusal.reason
        if (seconds := backend.expected_seconds(problem)) > LONG:
            notify(f"{problem.name} {problem.dtype}: enclosing the true trajectory, about {seconds:.0f} s")
        return backend.enclosure(problem)
    except LockstepError as error:
        return f"{error.what}: {error.got}"


def own_errors(truth: Truth | str, runs: Iterable[Run]) -> Certified:
    """The errors of all runs that trained."""
    if isinstance(truth, str):
        return Certified(reason=truth)
    errors = {}
    for run in runs:
        if run.trace is not None:
            with suppress(ValueError):  # the comparison reports the wrong shape or name
                errors[run.backend] = truth.errors(run.trace)
    return Certified(errors, truth.bits, truth.seconds)
