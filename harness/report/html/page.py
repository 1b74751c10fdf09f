"""The whole page: this module takes its contents from the document; the templates in `templates/` write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.harness.report import left_out
from lockstep.harness.report.facts import facts
from lockstep.harness.report.html import bench, cases, matrix, view
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
"""Id of each section, which a template of that name writes -> its heading, in the order of the page."""


def parts(report: Mapping[str, Any]) -> dict[str, str]:
    """The sections of the page of a report."""
    return {key: title for key, title in PARTS.items() if key != "benchmark" or report.get("benchmark")}


def render(document: Mapping[str, Any]) -> str:
    """The page as one text; the same document gives the same bytes."""
    report, plots = dict(document), Plots()
    with plotting():
        views = cases.views(report, plots)
        detection = plots.detection(report["alarm"]["detection"]) if report["alarm"] else None
    return template("page.html").render(
        report=report,
        parts=parts(report),
        backends=matrix.backends(report),
        titles=[f" {name}" for name in matrix.backends(report)],
        rows=matrix.rows(report, views),
        nearest=matrix.nearest(views),
        counts=matrix.counts(report),
        left_out=left_out.of_cases(report["cases"]),
        differing=_first_differing(report),
        cases=views,
        detailed=cases.DETAILED,
        detection=detection,
        benchmark=bench.within(report),
        unjudged=_unjudged(report, views),
        environment=facts(report["environment"]),
    )


def _first_differing(report: Document) -> Document | None:
    """The first comparison that differs, in the order of the cases; None where only a diagnosis found a difference."""
    return next((one for one in report["comparisons"] if one["verdict"] == "DIFFER"), None)


def _unjudged(report: Document, views: list[view.View]) -> list[Document]:
    """Runs that did not train, and comparisons and whole cases without a verdict on the backends."""
    undecided = ("INCONCLUSIVE", "ERROR", "SKIPPED")
    anchors = {(view.problem, view.dtype): view.anchor for view in views}
    unjudged = []
    for kind in ("runs", "comparisons", "cases"):
        for one in report[kind]:
            if one["verdict"] in undecided:
                case = (one["problem"], one["dtype"])
                unjudged.append({**one, "what": _what(one), "anchor": anchors.get(case, "evidence")})
    return unjudged


def _what(one: Document) -> str:
    if "backend" in one:
        return f"backend {one['backend']}"
    if "quantity" in one:
        return f"{one['quantity']} of {one['left']} and {one['right']}"
    return "the case"
