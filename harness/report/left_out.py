"""What a report's verdict is not about: the arrays that were compared with no other side's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lockstep.harness.verification.result import LeftOut, not_compared

Row = dict[str, Any]


def of_cases(cases: Iterable[Row]) -> str:
    """``, 2 buffers of torch not compared``, to follow the verdict; empty where nothing was left out."""
    return "".join(f", {words}" for words in not_compared(_left_out(cases)))


def sentences(case: Row) -> list[str]:
    """One for each kind of array that a side keeps alone, with the names."""
    return [one.sentence for one in _left_out([case])]


def _left_out(cases: Iterable[Row]) -> list[LeftOut]:
    return [
        LeftOut(one["backend"], one["kind"], tuple(one["names"]))
        for case in cases
        for one in case.get("left_out", ())  # no part of older reports
    ]
