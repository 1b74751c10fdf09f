"""Verdicts, how they combine, and the exit status that they mean."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What was decided. In order of what a reader must hear first."""

    DIFFER = "DIFFER"
    """Something is further apart than the tolerance, or of another shape, dtype or name, or not finite."""
    ERROR = "ERROR"
    """A backend failed, or nothing finite was left to compare."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Compared, but in a way that could not have failed; or there was nothing to compare."""
    SKIPPED = "SKIPPED"
    """A backend that was asked for did not train."""
    AGREE = "AGREE"
    """Everything that was asked for was compared, and all of it is within tolerance."""

    @property
    def exit_status(self) -> int:
        """0 for AGREE, 1 for DIFFER, 3 for what could not be judged."""
        return {Verdict.AGREE: 0, Verdict.DIFFER: 1}.get(self, 3)


_SEVERITY = tuple(Verdict)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe; of nothing at all, INCONCLUSIVE: an empty comparison agrees with nobody."""
    return min(verdicts, key=_SEVERITY.index, default=Verdict.INCONCLUSIVE)
