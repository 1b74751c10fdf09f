"""Which rows of a diagnosis' ledgers a page shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict

Row = dict[str, Any]

SHOWN = 40
"""Rows of one diagnosis."""


def rows(found: Row) -> list[Row]:
    """What does not agree, and of what agrees the furthest of each kind of stage; each with the ledger it is of."""
    all_of_it = [{**row, "ledger": ledger} for ledger, row in _ledgers(found)]
    differing = [row for row in all_of_it if row["verdict"] != Verdict.AGREE]
    return [*differing, *_one_of_each_kind(all_of_it)][:SHOWN]


def _ledgers(found: Row) -> Iterator[tuple[str, Row]]:
    yield from (("lockstep", row) for row in found["ledger"])
    yield from (("exchanged", row) for row in found["exchanged"])
    yield from (("free run", row) for row in found["free"])
    for name, ledger in found["carried"].items():
        yield from ((f"carried {name}", row) for row in ledger)


def _one_of_each_kind(all_of_it: list[Row]) -> Iterator[Row]:
    """Of the kinds of stage that agree throughout, with how many rows stand behind the one."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in all_of_it:
        kinds.setdefault((row["ledger"], row["stage"].partition("/")[0]), []).append(row)
    for group in kinds.values():
        if all(row["verdict"] == Verdict.AGREE for row in group):
            furthest = max(group, key=lambda row: _size(row["distance"]))
            yield {**furthest, "reason": f"the furthest of {len(group)}"}


def _size(value: float | str) -> float:
    return -1.0 if isinstance(value, str) else value
