"""The whole page: what stands in it, from the document; how it is written, in the templates beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.harness.report.facts import facts
from lockstep.harness.report.html import bench, cases, matrix
from lockstep.harness.report.html.plots import Plots, plotting
from lockstep.harness.report.html.writing import template

Document = dict[str, Any]

PARTS = {
    "verdict": "Verdict",
    "matrix": "Problems and backends",
    "evidence": "Evidence, case by case",
    "detection": "How good this alarm is",
    "unjudged": "What could not be judged",
    "benchmark": "Benchmark",
    "environment": "Environment",
    "again": "Run it again",
}
"""Id of each section, which a template of that name writes -> its heading, in the order in which a reader asks."""


def parts(told: Mapping[str, Any]) -> dict[str, str]:
    """The sections of the page of a report."""
    return {key: title for key, title in PARTS.items() if key != "benchmark" or told.get("benchmark")}


def render(document: Mapping[str, Any]) -> str:
    """The page as one text; the same document gives the same bytes."""
    told, plots = dict(document), Plots()
    with plotting():
        views = cases.views(told, plots)
        detection = plots.detection(told["alarm"]["detection"]) if told["alarm"] else None
    return template("page.html").render(
        told=told,
        parts=parts(told),
        backends=matrix.backends(told),
        titles=[f" {name}" for name in matrix.backends(told)],
        rows=matrix.rows(told, views),
        nearest=matrix.nearest(views),
        counts=matrix.counts(told),
        cases=views,
        detailed=cases.DETAILED,
        detection=detection,
        benchmark=bench.within(told),
        unjudged=_unjudged(told, views),
        environment=facts(told["environment"]),
    )


def _unjudged(told: Document, views: list[cases.View]) -> list[Document]:
    """Runs that did not train, and comparisons and whole cases without a verdict on the backends."""
    undecided = ("INCONCLUSIVE", "ERROR", "SKIPPED")
    anchors = {(view.problem, view.dtype): view.anchor for view in views}
    found = []
    for kind in ("runs", "comparisons", "cases"):
        for one in told[kind]:
            if one["verdict"] in undecided:
                case = (one["problem"], one["dtype"])
                found.append({**one, "what": _what(one), "anchor": anchors.get(case, "evidence")})
    return found


def _what(one: Document) -> str:
    if "backend" in one:
        return f"backend {one['backend']}"
    if "quantity" in one:
        return f"{one['quantity']} of {one['left']} and {one['right']}"
    return "the case"
