"""The tables of a benchmark in Markdown: a text of its own, and a section of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.harness.benchmark.tables import Table, outcome, tables, where
from lockstep.harness.documents.markup import plain, table
from lockstep.harness.report import benchmark
from lockstep.harness.report.figures import printable

Document = dict[str, Any]


def render(told: Document) -> str:
    """A benchmark as one text."""
    return "\n".join(["# Benchmark", "", *_lines(told, 2)])


def within(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the section of a report, where there is a benchmark in it."""
    told = benchmark.of(report)
    if told is None:
        return
    yield from ("## Benchmark", "")
    for one in benchmark.sentences(told, report):
        yield from (_text(one), "")
    yield from _lines(told, 3)
    yield from ("### Its environment", "")
    rows = (
        (one.what, one.there, _here(one), "differs" if one.differs else "")
        for one in benchmark.environment(told, report)
    )
    yield from table(("what", "benchmark", "this report", ""), (map(_text, row) for row in rows))


def _lines(told: Document, level: int) -> Iterator[str]:
    yield from (f"- {_text(one)}" for one in outcome(told))
    yield ""
    for one in tables(told):
        yield from _table(one, level)
    yield from (f"{'#' * level} Where", "", _text(where(told)), "")
    if told["command"]:
        yield from (f"    {printable(told['command'])}", "")


def _table(one: Table, level: int) -> Iterator[str]:
    rows = ([*row, *[""] * (len(one.head) - len(row))] for row in one.rows)
    yield from (f"{'#' * level} {_text(one.title)}", "")
    yield from table(one.head, (map(_text, row) for row in rows))
    for note in one.notes:
        yield from (_text(note), "")


def _here(one: benchmark.Fact) -> str:
    return "not told" if one.here is None else one.here


def _text(words: str) -> str:
    return plain(printable(words))
