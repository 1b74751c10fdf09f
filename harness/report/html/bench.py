"""A benchmark as a page of its own, and as a section of a report's page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lockstep.harness.benchmark.tables import Table, groups, outcome, tables, where
from lockstep.harness.report import benchmark
from lockstep.harness.report.html.bench_plots import Plots
from lockstep.harness.report.html.writing import template

Document = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A benchmark as the templates take it.

    Attributes:
        outcome: what must be heard first, one sentence each.
        where: the machine in a sentence.
        command: what measures it again; empty where it was called from Python.
        parts: every table with the plots of what it holds.
        install: how to get what draws the plots; empty where it is there.
    """

    outcome: Sequence[str]
    where: str
    command: str
    parts: Sequence[tuple[Table, Sequence[Markup]]]
    install: str


@dataclass(frozen=True)
class Within:
    """A benchmark in a report: what was measured, what must be known of it there, and its environment beside the report's."""

    measured: Measured
    sentences: Sequence[str]
    environment: Sequence[benchmark.Fact]


def render(told: Document) -> str:
    """The page of its own as one text; the same document gives the same bytes."""
    return template("bench.html").render(version=told["environment"]["lockstep"], found=measured(told))


def within(report: Mapping[str, Any]) -> Within | None:
    """The benchmark in a report; None where there is none."""
    told = benchmark.of(report)
    if told is None:
        return None
    return Within(measured(told), benchmark.sentences(told, report), benchmark.environment(told, report))


def measured(told: Document) -> Measured:
    """What both pages show of a benchmark."""
    plots = Plots()
    with plots.style():
        drawn = [*_plots(told, plots)]
    shown = [*tables(told)]
    drawn += [[]] * (len(shown) - len(drawn))  # the baseline's table has none
    install = "" if plots.available else plots.install
    return Measured(outcome(told), where(told), told["command"], [*zip(shown, drawn, strict=True)], install)


def _plots(told: Document, plots: Plots) -> Iterator[list[Markup]]:
    """Those of every problem at every size, then of all sweeps together: in the order of the tables."""
    for group in groups(told):
        found = plots.split(group), plots.distribution(group), plots.accuracy(group)
        yield [one for one in found if one]
    if told["growth"]:
        grown = (plots.scaling(sweep, _limits(told, sweep[0])) for sweep in _sweeps(told))
        yield [one for one in grown if one]


def _sweeps(told: Document) -> list[list[Document]]:
    """The rows of the growth, by problem, dtype and size."""
    found: dict[tuple[str, str, str], list[Document]] = {}
    for one in told["growth"]:
        found.setdefault((one["problem"], one["dtype"], one["axis"]), []).append(one)
    return [*found.values()]


def _limits(told: Document, row: Document) -> list[tuple[float, float]]:
    """(size, seconds) that nothing can be faster than, over the sweep of one row of the growth."""
    sweep = row["problem"], row["dtype"], row["axis"]
    return sorted(
        {
            (one["size"][row["axis"]], one["need"]["seconds"])
            for one in told["entries"]
            if (one["problem"], one["dtype"], one["sweep"]) == sweep and one["need"]["seconds"]
        }
    )
