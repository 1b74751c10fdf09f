"""The matrix of problems and backends, each cell with the words for its colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.report import attribution
from lockstep.harness.report.html.view import View

Row = dict[str, Any]


def backends(report: Row) -> list[str]:
    """Every requested backend, in the order of the runs."""
    return list(dict.fromkeys(run["backend"] for run in report["runs"]))


def counts(report: Row) -> list[tuple[str, int]]:
    """How many cases had each verdict, the most severe first."""
    cases = Counter(case["verdict"] for case in report["cases"])
    return [(verdict.value, cases[verdict]) for verdict in Verdict if cases[verdict]]


def rows(report: Row, views: list[View]) -> Iterator[Row]:
    """One for each case, with a cell for each backend; None where that was not requested."""
    for view in views:
        runs = {run["backend"]: run for run in view.runs}
        own = attribution.verdicts({"runs": view.runs, "comparisons": view.comparisons}, view.case)
        yield {
            "view": view,
            "cells": [
                _cell(view, runs[name], own[name]) if name in runs else None for name in backends(report)
            ],
        }


def nearest(views: list[View]) -> Row | None:
    """The comparison that used most of its limit in all cases, and where its evidence is."""
    candidates = [(one, view.anchor) for view in views if (one := view.nearest) is not None]
    if not candidates:
        return None
    one, anchor = max(candidates, key=lambda pair: float(pair[0]["used"]))
    return {"one": one, "anchor": anchor}


def _cell(view: View, run: Row, verdict: Verdict) -> Row:
    words = _words(view, run["backend"]) if run["losses"] else "did not train"
    return {"verdict": verdict.value, "words": words, "anchor": _evidence(view, run)}


def _evidence(view: View, run: Row) -> str:
    """Where the page says why: the first divergence, the reason why it did not train, or the census."""
    if view.brief:
        return view.anchor
    if not run["losses"]:
        return f"{view.anchor}-runs"
    for diagnosis in view.diagnoses:
        if diagnosis["backend"] == run["backend"] and diagnosis["verdict"] != Verdict.AGREE:
            return str(diagnosis["anchor"])
    return f"{view.anchor}-census" if view.census else view.anchor


def _words(view: View, backend: str) -> str:
    against: dict[str, list[Verdict]] = {}
    for one in view.comparisons:
        sides = [one["left"], one["right"]]
        if backend in sides:
            sides.remove(backend)
            against.setdefault(sides[0], []).append(Verdict(one["verdict"]))
    agreeing = sum(combine(verdicts) is Verdict.AGREE for verdicts in against.values())
    blamed = any(one["culprit"] and one["culprit"]["name"] == backend for one in view.case["diagnoses"])
    others = f"with {agreeing} of {len(against)}" if against else "alone"
    return f"{others}; blamed" if blamed else others
