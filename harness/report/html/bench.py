"""A benchmark as a page of its own, and as a section of a report's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lockstep.harness.report import benchmark
from lockstep.harness.report.bench_tables import (
    Table,
    groups,
    outcome,
    tables,
    where,
)
from lockstep.harness.report.html.bench_plots import Plots
from lockstep.harness.report.html.writing import template

Document = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A benchmark, in the form that the templates need.

    Attributes:
        outcome: the most important results, one sentence each.
        where: the machine in a sentence.
        command: the command that measures it again; empty for a call from Python.
        parts: every table with its plots.
        install: the command that installs matplotlib; empty where it is installed.
    """

    outcome: Sequence[str]
    where: str
    command: str
    parts: Sequence[tuple[Table, Sequence[Markup]]]
    install: str


@dataclass(frozen=True)
class Within:
    """A benchmark in a report: what was measured, what a reader must know about it, and its environment next to the report's."""

    measured: Measured
    sentences: Sequence[str]
    environment: Sequence[benchmark.Fact]


def render(document: Document) -> str:
    """The page of its own as one text; the same document gives the same bytes."""
    return template("bench.html").render(
        version=document["environment"]["lockstep"], benchmark=measured(document)
    )


def within(report: Mapping[str, Any]) -> Within | None:
    """The benchmark in a report; None where there is none."""
    document = benchmark.in_report(report)
    if document is None:
        return None
    return Within(
        measured(document), benchmark.sentences(document, report), benchmark.environment(document, report)
    )


def measured(document: Document) -> Measured:
    """The content of both pages about a benchmark."""
    plots = Plots()
    with plots.style():
        drawn = [*_plots(document, plots)]
    shown = [*tables(document)]
    drawn += [[]] * (len(shown) - len(drawn))  # the baseline's table has none
    install = "" if plots.available else plots.install
    return Measured(
        outcome(document), where(document), document["command"], [*zip(shown, drawn, strict=True)], install
    )


def _plots(document: Document, plots: Plots) -> Iterator[list[Markup]]:
    """The plots of every problem at every size, then of all sweeps: in the order of the tables."""
    for group in groups(document):
        drawn = plots.split(group), plots.distribution(group), plots.accuracy(group)
        yield [one for one in drawn if one]
    if document["growth"]:
        grown = (plots.scaling(sweep, _limits(document, sweep[0])) for sweep in _sweeps(document))
        yield [one for one in grown if one]


def _sweeps(document: Document) -> list[list[Document]]:
    """The rows of the growth, by problem, dtype and size."""
    sweeps: dict[tuple[str, str, str], list[Document]] = {}
    for one in document["growth"]:
        sweeps.setdefault((one["problem"], one["dtype"], one["axis"]), []).append(one)
    return [*sweeps.values()]


def _limits(document: Document, row: Document) -> list[tuple[float, float]]:
    """(size, seconds) that nothing can be faster than, over the sweep of one row of the growth."""
    sweep = row["problem"], row["dtype"], row["axis"]
    return sorted(
        {
            (one["size"][row["axis"]], one["need"]["seconds"])
            for one in document["entries"]
            if (one["problem"], one["dtype"], one["sweep"]) == sweep and one["need"]["seconds"]
        }
    )
