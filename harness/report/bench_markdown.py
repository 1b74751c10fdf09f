"""The tables of a benchmark in Markdown: a text of its own, and a section of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.harness.documents.figures import (
    printable,
)
from lockstep.harness.documents.markup import plain, table
from lockstep.harness.report import benchmark
from lockstep.harness.report.bench_tables import (
    Table,
    outcome,
    tables,
    where,
)

Document = dict[str, Any]


def render(document: Document) -> str:
    """A benchmark as one text."""
    return "\n".join(["# Benchmark", "", *_lines(document, 2)])


def within(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the section of a report, where there is a benchmark in it."""
    document = benchmark.in_report(report)
    if document is None:
        return
    yield from ("## Benchmark", "")
    for one in benchmark.sentences(document, report):
        yield from (_text(one), "")
    yield from _lines(document, 3)
    yield from ("### Its environment", "")
    rows = (
        (one.what, one.there, _here(one), "differs" if one.differs else "")
        for one in benchmark.environment(document, report)
    )
    yield from table(("what", "benchmark", "this report", ""), (map(_text, row) for row in rows))


def _lines(document: Document, level: int) -> Iterator[str]:
    yield from (f"- {_text(one)}" for one in outcome(document))
    yield ""
    for one in tables(document):
        yield from _table(one, level)
    yield from (f"{'#' * level} Where", "", _text(where(document)), "")
    if document["command"]:
        yield from (f"    {printable(document['command'])}", "")


def _table(one: Table, level: int) -> Iterator[str]:
    rows = ([*row, *[""] * (len(one.head) - len(row))] for row in one.rows)
    yield from (f"{'#' * level} {_text(one.title)}", "")
    yield from table(one.head, (map(_text, row) for row in rows))
    for note in one.notes:
        yield from (_text(note), "")


def _here(one: benchmark.Fact) -> str:
    return "not stated" if one.here is None else one.here


def _text(words: str) -> str:
    return plain(printable(words))
