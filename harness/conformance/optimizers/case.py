"""One check in one dtype: what a test is made of."""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.backends.problem import DTYPES
from lockstep.harness.conformance.optimizers.checks import OPTIMIZER_CHECKS, OptimizerCheck
from lockstep.harness.conformance.optimizers.explain import explain
from lockstep.harness.conformance.optimizers.pair import Finding, Pair
from lockstep.harness.conformance.optimizers.sequences import SHAPES, Shapes
from lockstep.harness.core.nonconformity import Nonconformity
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.explain import Confirmed


@dataclass(frozen=True)
class OptimizerCase:
    """One check of one pair in one dtype.

    Attributes:
        check: which rule.
        pair: who is checked, and against whom.
        dtype: of parameters and gradients.
    """

    check: OptimizerCheck
    pair: Pair
    dtype: str

    @property
    def id(self) -> str:
        """What a test suite calls it."""
        return f"{self.check.name}-{self.dtype}"

    def find(self) -> Finding:
        """What the check finds."""
        return self.check.run(self.pair, self.dtype)

    def run(self) -> None:
        """Check.

        Raises:
            Nonconformity: they differ, or ours breaks a rule; an AssertionError, so that a test fails.
            unittest.SkipTest: nothing can be decided in this dtype; a test is then skipped, with the reason.
        """
        found = self.find()
        if found.verdict is Verdict.INCONCLUSIVE:
            raise unittest.SkipTest(f"{self.pair.name}, {self.id}: {found.reason}")
        if found.verdict is not Verdict.AGREE:
            # A check of ours alone is explained by what it found.
            raise self.failure(found, explain(self.pair, self.dtype) if self.check.pattern else None)

    def failure(self, found: Finding, explanation: Confirmed | None = None) -> Nonconformity:
        """A finding in words."""
        what = f"{self.pair.name}, {self.dtype}: check {self.check.name!r}: expected {self.check.reason}"
        got = found.reason if explanation is None else f"{found.reason}; {explanation.description}"
        return Nonconformity(what, got, self.check.mend)


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
