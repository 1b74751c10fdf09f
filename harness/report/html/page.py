"""The whole page: what stands in it, from the document; how it is written, in the templates beside this file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from harness.report import figures
from harness.report.html import cases, matrix, text
from harness.report.html.plots import Plots, plotting

Document = dict[str, Any]

PARTS = {
    "verdict": "Verdict",
    "matrix": "Problems and backends",
    "evidence": "Evidence, case by case",
    "detection": "How good this alarm is",
    "unjudged": "What could not be judged",
    "environment": "Environment",
    "again": "Run it again",
}
"""Id of each section, which a template of that name writes -> its heading, in the order in which a reader asks."""


def render(document: Mapping[str, Any]) -> str:
    """The page as one text; the same document gives the same bytes."""
    told, plots = dict(document), Plots()
    with plotting():
        views = cases.views(told, plots)
        detection = plots.detection(told["alarm"]["detection"]) if told["alarm"] else None
    return (
        _templates()
        .get_template("page.html")
        .render(
            told=told,
            parts=PARTS,
            backends=matrix.backends(told),
            titles=[f" {name}" for name in matrix.backends(told)],
            rows=matrix.rows(told, views),
            nearest=matrix.nearest(views),
            counts=matrix.counts(told),
            cases=views,
            detailed=cases.DETAILED,
            detection=detection,
            unjudged=_unjudged(told, views),
            environment=_environment(told["environment"]),
        )
    )


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report.html", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "name": text.name,
        "distance": figures.distance,
        "share": figures.share,
        "ulps": figures.ulps,
        "tolerance": figures.tolerance,
    }
    found.globals |= {
        "place": figures.place,
        "style": _trusted(found, "style.css"),
        "script": _trusted(found, "script.js"),
    }
    return found


def _trusted(templates: jinja2.Environment, name: str) -> Markup:
    """A file of ours, as it is."""
    loader = templates.loader
    assert loader is not None
    return Markup(loader.get_source(templates, name)[0])


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


def _environment(environment: Document) -> list[tuple[str, str]]:
    """Each fact with the path to it: ``backends / torch / version``."""
    return list(_facts("", environment))


def _facts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for key, one in pairs:
            yield from _facts(f"{path} / {key}" if path else str(key), one)
    else:
        yield path, text.fact(value)
