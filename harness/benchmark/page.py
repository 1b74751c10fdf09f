"""A benchmark as one page that asks nothing of a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from harness.benchmark.plots import Plots
from harness.benchmark.tables import outcome, tables, where
from harness.report.html import text

Document = dict[str, Any]


def render(told: Document) -> str:
    """The page as one text; the same document gives the same bytes."""
    plots = Plots()
    with plots.style():
        drawn = [*_plots(told, plots)]
    page = _templates().get_template("bench.html")
    return page.render(
        told=told,
        outcome=outcome(told),
        tables=list(tables(told)),
        where=where(told),
        plots=plots,
        drawn=drawn,
    )


def _plots(told: Document, plots: Plots) -> Iterator[tuple[str, list[Markup]]]:
    """Title and plots of every problem at every size, then of every sweep."""
    entries = told["entries"]
    for (problem, dtype, _), group in itertools.groupby(
        entries, lambda one: (one["problem"], one["dtype"], one["sha256"])
    ):
        these = list(group)
        drawn = [plots.split(these), plots.distribution(these), plots.accuracy(these)]
        rows = f"{these[0]['size']['rows']:,} rows, {these[0]['size']['epochs']:,} epochs"
        yield f"{problem} {dtype}: {rows}", [one for one in drawn if one]
    for (problem, dtype, axis), sweep in _sweeps(told):
        limits = {
            (one["size"][axis], one["need"]["seconds"])
            for one in entries
            if (one["problem"], one["dtype"], one["sweep"]) == (problem, dtype, axis)
            and one["need"]["seconds"]
        }
        drawn = [plots.scaling(sweep, sorted(limits))]
        yield f"{problem} {dtype}: growth with {axis}", [one for one in drawn if one]


def _sweeps(told: Document) -> Iterator[tuple[tuple[str, str, str], list[Document]]]:
    groups: dict[tuple[str, str, str], list[Document]] = {}
    for one in told["growth"]:
        groups.setdefault((one["problem"], one["dtype"], one["axis"]), []).append(one)
    yield from groups.items()


@cache
def _templates() -> jinja2.Environment:
    """Our template, with the style sheet of the parity report."""
    shared = jinja2.PackageLoader("harness.report.html", "templates")
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.benchmark", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["style"] = Markup(shared.get_source(found, "style.css")[0])
    return found
