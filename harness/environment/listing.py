"""The registries: backends, problems and the members of problems, kind by kind. Imports no framework."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lockstep import backends
from lockstep.backends.ops import (
    AVERAGES,
    CLIPS,
    FUNCTIONS,
    LOSSES,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    Argument,
)
from lockstep.harness.problems import catalogue

SCHEMA_VERSION = 1


def listing() -> dict[str, Any]:
    """The registries as JSON values, according to ``list.schema.json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "backends": [
            {
                "name": one.name,
                "summary": one.summary,
                "installed": not backends.missing_modules(one.name),
                "install": one.install_command if one.requirements else None,
            }
            for one in backends.known().values()
        ],
        "problems": [{"name": name, "summary": entry.reason} for name, entry in catalogue().items()],
        **{
            kind: [
                {"name": name, "summary": one.doc, "arguments": list(map(_argument, one.arguments.items()))}
                for name, one in table.items()
            ]
            for kind, table in (
                ("functions", FUNCTIONS),
                ("losses", LOSSES),
                ("optimizers", OPTIMIZERS),
                ("schedules", SCHEDULES),
                ("clips", CLIPS),
                ("penalties", PENALTIES),
                ("averages", AVERAGES),
            )
        },
    }


def _argument(named: tuple[str, Argument]) -> dict[str, Any]:
    name, one = named
    return {"name": name, "summary": one.doc, "values": one.describe(), "default": one.default}


def render(listed: dict[str, Any]) -> RenderableType:
    """The listing as one table a kind."""
    return Group(*(_table(kind, rows) for kind, rows in listed.items() if isinstance(rows, list)))


def _table(kind: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(kind, no_wrap=True, min_width=16)
    table.add_column("")
    for row in rows:
        arguments = "".join(
            f"\n  {one['name']}: {one['summary']}; {one['values']}" for one in row.get("arguments", ())
        )
        absent = "" if row.get("installed", True) else f" (not installed: {row['install']})"
        table.add_row(escape(row["name"]), escape(f"{row['summary']}{absent}{arguments}"))
    return table
