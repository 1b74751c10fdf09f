"""What checking a backend found."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.harness.conformance.check import Check
from lockstep.harness.core.nonconformity import Nonconformity
from lockstep.harness.core.verdict import Verdict, combine


@dataclass(frozen=True)
class Outcome:
    """One check, over all the problems that it was made on.

    Attributes:
        check: which.
        verdict: AGREE: the rule is kept wherever it was checked; DIFFER: it is broken; SKIPPED: nothing to check.
        checked: the problems, with their dtypes, on which it was made.
        failures: (problem and dtype, what was found) where it is broken.
        skipped: why it was not made; empty where it was.
    """

    check: Check
    verdict: Verdict
    checked: tuple[str, ...] = ()
    failures: tuple[tuple[str, Nonconformity], ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that was found about one backend.

    Attributes:
        backend: its name.
        capabilities: what its trainers claim, sorted.
        outcomes: check by check.
        trained: the problems, with their dtypes, that it trains.
        refused: (problem and dtype, its reason) of those that it does not.
    """

    backend: str
    capabilities: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    trained: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def verdict(self) -> Verdict:
        """DIFFER if a rule is broken; AGREE if some were checked and none is; of nothing at all, INCONCLUSIVE."""
        return combine(one.verdict for one in self.outcomes if one.verdict is not Verdict.SKIPPED)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that found a broken rule."""
        return tuple(one.check.name for one in self.outcomes if one.failures)

    def census(self) -> str:
        """Every broken rule, with where, what was found and how it is mended."""
        lines = [f"{self.backend}: {self.verdict}: {len(self.failed)} of {len(self.outcomes)} checks failed"]
        lines += [
            f"{one.check.name}, {where}: {error}" for one in self.outcomes for where, error in one.failures
        ]
        return "\n".join(lines)
