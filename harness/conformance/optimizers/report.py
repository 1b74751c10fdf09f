"""What checking an optimizer found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.backends.problem import DTYPES
from lockstep.harness.conformance.optimizers.case import OptimizerCase
from lockstep.harness.conformance.optimizers.checks import OPTIMIZER_CHECKS, OptimizerCheck
from lockstep.harness.conformance.optimizers.explain import explain
from lockstep.harness.conformance.optimizers.pair import Pair
from lockstep.harness.conformance.optimizers.sequences import SHAPES, Shapes
from lockstep.harness.core.nonconformity import Nonconformity
from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.diagnose.explain import Confirmed

FAILED = (Verdict.DIFFER, Verdict.ERROR)
"""The verdicts of a check that failed."""


@dataclass(frozen=True)
class OptimizerOutcome:
    """One check in all dtypes.

    Attributes:
        check: which.
        verdict: DIFFER where a dtype shows a difference; ERROR where what ours is compared with does not run; INCONCLUSIVE
            where no dtype could have shown one; else AGREE.
        failures: (dtype, what was found) where they differ, or one does not run.
        undecided: (dtype, why) where nothing can be decided.
    """

    check: OptimizerCheck
    verdict: Verdict
    failures: tuple[tuple[str, Nonconformity], ...] = ()
    undecided: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OptimizerReport:
    """Everything that was found about one optimizer.

    Attributes:
        ours: what is checked, in words.
        against: what it should equal.
        outcomes: check by check.
        explanation: what ours does otherwise, confirmed by running it; None where they agree or none fits.
    """

    ours: str
    against: str
    outcomes: tuple[OptimizerOutcome, ...]
    explanation: Confirmed | None = None

    @property
    def verdict(self) -> Verdict:
        """The most severe of the checks'; of none at all, INCONCLUSIVE."""
        return combine(one.verdict for one in self.outcomes)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(one.check.name for one in self.outcomes if one.failures)

    def census(self) -> str:
        """Every failure with its update, parameter and element, the explanation, and what cannot be decided."""
        head = f"{self.ours} against {self.against}: {self.verdict}"
        lines = [f"{head}: {len(self.failed)} of {len(self.outcomes)} checks failed"]
        if self.explanation is not None:
            lines.append(f"explanation: {self.explanation.description}")
        for one in self.outcomes:
            lines += [
                f"{one.check.name}, {dtype}: {error.got}\n  fix: {error.fix}" for dtype, error in one.failures
            ]
            lines += [
                f"{one.check.name}, {dtype}: nothing can be decided: {why}" for dtype, why in one.undecided
            ]
        return "\n".join(lines)


def check_optimizer(
    ours: object,
    *,
    against: object,
    dtypes: Iterable[str] = DTYPES,
    shapes: Shapes = SHAPES,
    updates: int = 50,
    checks: Iterable[OptimizerCheck] = OPTIMIZER_CHECKS,
) -> OptimizerReport:
    """Compare an optimizer with another one: the same gradients to both, the parameters compared after every update.

    Both are any of: an Optax transform; what makes a torch optimizer, or (optimizer, scheduler), of parameters; an
    `Optimizer` of the catalogue, or (Optimizer, Schedule); an object with the methods of `lockstep.backends.adoption.OptimizerSide`.

    Args:
        ours: what is checked; the checks that are of one side alone are made of it.
        against: what it should equal.
        dtypes: of parameters and gradients.
        shapes: of the parameters by name, for an optimizer that takes only some.
        updates: of the long gradient sequences; of a schedule more than its last change.
        checks: all by default.

    Raises:
        AdoptionError: a side is nothing that a backend knows as an optimizer.
    """
    pair, dtypes = Pair((ours, against), shapes, updates), tuple(dtypes)
    outcomes = tuple(_outcome(check, pair, dtypes) for check in checks)
    differing = [dtype for one in outcomes if one.check.pattern for dtype, _ in one.failures]
    explanation = explain(pair, differing[0]) if differing else None
    return OptimizerReport(pair.sides[0].name, pair.sides[1].name, outcomes, explanation)


def _outcome(check: OptimizerCheck, pair: Pair, dtypes: Iterable[str]) -> OptimizerOutcome:
    """One check in all dtypes."""
    cases = [OptimizerCase(check, pair, dtype) for dtype in dtypes]
    found = [(case, case.find()) for case in cases]
    verdicts = {one.verdict for _, one in found}
    failures = tuple((case.dtype, case.failure(one)) for case, one in found if one.verdict in FAILED)
    undecided = tuple((case.dtype, one.reason) for case, one in found if one.verdict is Verdict.INCONCLUSIVE)
    # What float32 cannot decide float64 can: one of them is enough.
    decided = verdicts - {Verdict.INCONCLUSIVE} if Verdict.AGREE in verdicts else verdicts
    return OptimizerOutcome(check, combine(decided), failures, undecided)
