"""The tables of a benchmark in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from lockstep.harness.documents.figures import (
    printable,
)
from lockstep.harness.report.bench_tables import (
    Table,
    outcome,
    tables,
    where,
)

Document = dict[str, Any]


def terminal(document: Document) -> RenderableType:
    """Every table, where it was measured, and the most important results."""
    parts = [part for one in tables(document) for part in _table(one)]
    return Group(
        *parts, Text(printable(where(document))), *(Text(printable(one), "bold") for one in outcome(document))
    )


def _table(one: Table) -> list[RenderableType]:
    return [Text(printable(one.title), "bold"), _grid(one), *map(Text, map(printable, one.notes)), Text()]


def _grid(one: Table) -> Grid:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for title in one.head:
        grid.add_column(escape(title), no_wrap=True)
    for row in one.rows:
        grid.add_row(*(escape(printable(cell)) for cell in row))
    return grid
