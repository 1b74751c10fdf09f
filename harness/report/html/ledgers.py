"""Which rows of a diagnosis' ledgers a page shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict

Row = dict[str, Any]

SHOWN = 40
"""Rows of one diagnosis."""


def rows(diagnosis: Row) -> list[Row]:
    """Rows that do not agree, then the row with the largest distance of each kind of stage that agrees; each with the name of its ledger."""
    all_of_it = [{**row, "ledger": ledger} for ledger, row in _ledgers(diagnosis)]
    differing = [row for row in all_of_it if row["verdict"] != Verdict.AGREE]
    return [*differing, *_one_of_each_kind(all_of_it)][:SHOWN]


def _ledgers(diagnosis: Row) -> Iterator[tuple[str, Row]]:
    yield from (("lockstep", row) for row in diagnosis["ledger"])
    yield from (("exchanged", row) for row in diagnosis["exchanged"])
    yield from (("free run", row) for row in diagnosis["free"])
    for name, ledger in diagnosis["carried"].items():
        yield from ((f"carried {name}", row) for row in ledger)


def _one_of_each_kind(all_of_it: list[Row]) -> Iterator[Row]:
    """One row of each kind of stage that agrees throughout, with the number of rows that it represents."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in all_of_it:
        kinds.setdefault((row["ledger"], row["stage"].partition("/")[0]), []).append(row)
    for group in kinds.values():
        if all(row["verdict"] == Verdict.AGREE for row in group):
            largest = max(group, key=lambda row: _size(row["distance"]))
            yield {**largest, "reason": f"the largest distance of {len(group)}"}


def _size(value: float | str) -> float:
    return -1.0 if isinstance(value, str) else value
