"""One check: what a backend must do, why, and how a backend that does not is mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lockstep.harness.conformance.problems import ROUND
from lockstep.harness.conformance.subject import Subject


class BrokenRule(Exception):  # noqa: N818 - a finding, on its way to the check that words it
    """What a check found instead of what it expected."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Check:
    """One rule of the protocol, as something that can fail.

    Attributes:
        name: what reports call it.
        reason: why it matters: what goes wrong in a comparison with a backend that breaks the rule.
        mend: how such a backend is repaired.
        run: raises a `BrokenRule`, or whatever the backend raises, unless the subject keeps the rule.
        needs: the capabilities without which there is nothing to check.
        problems: the names of the problems that it is made on; of none of them, once, on whichever there is.
    """

    name: str
    reason: str
    mend: str
    run: Callable[[Subject], None]
    needs: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ROUND


def expect(kept: bool, expected: str, found: object) -> None:
    """Raise a `BrokenRule` unless the rule is kept."""
    if not kept:
        raise BrokenRule(expected, str(found))
