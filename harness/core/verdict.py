"""Verdicts, how they combine, and the exit status that they mean."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """The decision. In the order in which a reader must hear of them."""

    DIFFER = "DIFFER"
    """A distance is beyond its tolerance, or a shape, dtype or name differs, or a value is not finite."""
    ERROR = "ERROR"
    """A backend failed, or nothing finite was left to compare."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """The comparison was vacuous, or there was nothing to compare."""
    SKIPPED = "SKIPPED"
    """A backend that was asked for did not train."""
    AGREE = "AGREE"
    """Everything that was asked for was compared, and all of it is within tolerance."""

    @property
    def exit_status(self) -> int:
        """0 for AGREE, 1 for DIFFER, 3 where no decision was possible."""
        return {Verdict.AGREE: 0, Verdict.DIFFER: 1}.get(self, 3)


_SEVERITY = tuple(Verdict)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe; of nothing at all, INCONCLUSIVE: an empty comparison agrees with nobody."""
    return min(verdicts, key=_SEVERITY.index, default=Verdict.INCONCLUSIVE)
