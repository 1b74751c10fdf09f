"""One check of an optimizer: what must hold, what it shows where it does not, and where to look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.harness.conformance.optimizers.pair import Found, Pair, Raised
from lockstep.harness.conformance.optimizers.sequences import Make
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import RAISED, describe


@dataclass(frozen=True)
class OptimizerCheck:
    """One question to an optimizer.

    Attributes:
        name: what reports call it.
        reason: what is expected, and why it is asked.
        mend: where to look where it fails.
        ask: (the pair, the dtype) -> what was found.
        course: the gradients on which both are compared; None of a check of ours alone.
    """

    name: str
    reason: str
    mend: str
    ask: Callable[[Pair, str], Found]
    course: Make | None = None

    def run(self, pair: Pair, dtype: str) -> Found:
        """Check; what a side raises is a finding."""
        try:
            return self.ask(pair, dtype)
        except Raised as raised:
            return raised.found
        except RAISED as error:  # whatever an optimizer raises
            return Found(Verdict.DIFFER, describe(error))


def compared(name: str, course: Make, reason: str, mend: str) -> OptimizerCheck:
    """A check that both sides do the same on a course."""
    return OptimizerCheck(name, reason, mend, lambda pair, dtype: pair.compare(course, dtype), course)
