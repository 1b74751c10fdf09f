"""One check in one dtype: what a test is made of."""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.backends.problem import DTYPES
from lockstep.harness.conformance.check import Nonconformity
from lockstep.harness.conformance.optimizers.check import OptimizerCheck
from lockstep.harness.conformance.optimizers.checks import OPTIMIZER_CHECKS
from lockstep.harness.conformance.optimizers.explain import explain
from lockstep.harness.conformance.optimizers.pair import Found, Pair
from lockstep.harness.conformance.optimizers.sequences import SHAPES, Shapes
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.explain import Confirmed


@dataclass(frozen=True)
class OptimizerCase:
    """One check of one pair in one dtype.

    Attributes:
        check: which question.
        pair: who is asked, and against whom.
        dtype: of parameters and gradients.
    """

    check: OptimizerCheck
    pair: Pair
    dtype: str

    @property
    def id(self) -> str:
        """What a test suite calls it."""
        return f"{self.check.name}-{self.dtype}"

    def find(self) -> Found:
        """What the check finds."""
        return self.check.run(self.pair, self.dtype)

    def run(self) -> None:
        """Check.

        Raises:
            Nonconformity: they part, or ours breaks a rule; an AssertionError, so that a test fails.
            unittest.SkipTest: nothing could be told in this dtype; a test is then skipped, with the reason.
        """
        found = self.find()
        if found.verdict is Verdict.INCONCLUSIVE:
            raise unittest.SkipTest(f"{self.pair.name}, {self.id}: {found.told}")
        if found.verdict is not Verdict.AGREE:
            raise self.failure(found, self.explained())

    def explained(self) -> Confirmed | None:
        """What one side does otherwise, where this check is of both and that is found out."""
        return explain(self.pair, self.dtype) if self.check.course is not None else None

    def failure(self, found: Found, explanation: Confirmed | None = None) -> Nonconformity:
        """A finding, worded."""
        what = f"{self.pair.name}, {self.dtype}: check {self.check.name!r}: expected {self.check.reason}"
        told = found.told if explanation is None else f"{found.told}; {explanation.does}"
        return Nonconformity(what, told, self.check.mend)


def optimizer_cases(
    ours: object,
    *,
    against: object,
    dtypes: Iterable[str] = DTYPES,
    shapes: Shapes = SHAPES,
    updates: int = 50,
    checks: Iterable[OptimizerCheck] = OPTIMIZER_CHECKS,
) -> tuple[OptimizerCase, ...]:
    """Every check in every dtype, one by one; as `check_optimizer`."""
    pair = Pair((ours, against), shapes, updates)
    dtypes = tuple(dtypes)
    return tuple(OptimizerCase(check, pair, dtype) for check in checks for dtype in dtypes)
