"""Whether a time may be shown: the parity verdict of each backend on the very problem that is timed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lockstep import backends as registry
from lockstep.backends.problem import Problem
from lockstep.harness.core.compare import Comparison
from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.documents.figures import (
    flattened,
)
from lockstep.harness.documents.numbers import (
    number,
)
from lockstep.harness.numerics.budget import Notify
from lockstep.harness.runs.workers import Trainers
from lockstep.harness.verification.parity import verify
from lockstep.harness.verification.result import Case

EPOCHS = 100
STEPS = 200
NUMBERS = 10**7
"""At most this many epochs, steps and numbers of x are verified: the budget trains the problem a hundred times."""
FEWEST = 3


@dataclass(frozen=True)
class Proof:
    """The parity of one backend.

    Attributes:
        verdict, reason: of its comparison with the reference.
        epochs: over how many; all rows, in the problem's dtype.
        losses, parameters: its own largest errors in ULPs; None where they are not known.
    """

    verdict: Verdict
    reason: str = ""
    epochs: int = 0
    losses: float | str | None = None
    parameters: float | str | None = None


def proofs(
    problem: Problem,
    backends: Sequence[str],
    trainers: Trainers,
    notify: Notify,
    certify: bool = False,
    most: int = EPOCHS,
) -> dict[str, Proof]:
    """Verify every backend against the reference; where that is alone, against the other backends that train by default.

    Args:
        problem: what will be timed.
        backends: registered names.
        trainers: the function that runs the trainings, as in `lockstep.verify`.
        notify: is called with a sentence before a long computation.
        certify: whether to find the backends' own errors too.
        most: epochs.
    """
    others = [name for name in backends if name != registry.REFERENCE] or [
        name for name in registry.entries() if name != registry.REFERENCE
    ]
    epochs = verified_epochs(problem, most)
    result = verify(
        problem,
        backends=[registry.REFERENCE, *others],
        dtypes=[problem.dtype],
        epochs=epochs,
        certify=certify,
        trainers=trainers,
        notify=notify,
    )
    (case,) = result.cases
    return {name: _proof(case, name, epochs) for name in backends}


def verified_epochs(problem: Problem, most: int = EPOCHS) -> int:
    """How many epochs are verified: the first ones, as many as their cost allows."""
    a_epoch = problem.batching.steps(len(problem.x))
    wanted = min(most, STEPS // a_epoch, max(FEWEST, NUMBERS // problem.x.size))
    # Accumulation must come to an update.
    return min(problem.epochs, max(1, wanted, -(-problem.accumulation // a_epoch)))


def _proof(case: Case, backend: str, epochs: int) -> Proof:
    verdict, reason = _judged(case, backend)
    losses, parameters = _own_errors(case, backend)
    return Proof(verdict, reason, epochs, losses, parameters)


def _judged(case: Case, backend: str) -> tuple[Verdict, str]:
    """The most severe of its comparisons with the reference; the reference agrees where any backend agrees with it."""
    (run,) = (one for one in case.runs if one.backend == backend)
    if run.trace is None:
        return run.verdict, "; ".join(filter(None, (run.reason, run.fix)))
    pairs: dict[str, list[Comparison]] = {}
    for one in case.comparisons:
        if registry.REFERENCE in (one.left, one.right) and backend in (one.left, one.right):
            pairs.setdefault(one.right if one.left == registry.REFERENCE else one.left, []).append(one)
    judged = {other: combine(one.verdict for one in compared) for other, compared in pairs.items()}
    if not judged:
        return (
            Verdict.INCONCLUSIVE,
            f"no other backend trained to compare {registry.REFERENCE} with",
        )
    if Verdict.AGREE in judged.values():
        return Verdict.AGREE, ""
    other = next(iter(judged))
    reasons = (f"{one.quantity}: {one.reason}" for one in pairs[other] if one.verdict is judged[other])
    return judged[other], f"against {registry.REFERENCE if backend == other else other}, {next(reasons)}"


def _own_errors(case: Case, backend: str) -> tuple[float | str | None, float | str | None]:
    errors = case.certified and case.certified.errors.get(backend)
    if not errors:
        return None, None
    parameters = [float(one) for value in errors.parameters.values() for one in flattened(value.tolist())]
    return number(_largest(errors.losses.tolist())), number(_largest(parameters))


def _largest(values: Sequence[float]) -> float:
    """The largest, or NaN where one is."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)
