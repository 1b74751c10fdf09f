"""The matrix of problems and backends, each cell with the words for its colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.report import attribution
from lockstep.harness.report.html.cases import View

Row = dict[str, Any]


def backends(told: Row) -> list[str]:
    """Every backend that was asked for, in the order of the runs."""
    return list(dict.fromkeys(run["backend"] for run in told["runs"]))


def counts(told: Row) -> list[tuple[str, int]]:
    """How many cases had each verdict, what must be heard first in front."""
    found = Counter(case["verdict"] for case in told["cases"])
    return [(verdict.value, found[verdict]) for verdict in Verdict if found[verdict]]


def rows(told: Row, views: list[View]) -> Iterator[Row]:
    """One for each case, with a cell for each backend; None where that was not asked for."""
    for view in views:
        runs = {run["backend"]: run for run in view.runs}
        own = attribution.verdicts({"runs": view.runs, "comparisons": view.comparisons}, view.case)
        yield {
            "view": view,
            "cells": [
                _cell(view, runs[name], own[name]) if name in runs else None for name in backends(told)
            ],
        }


def nearest(views: list[View]) -> Row | None:
    """The comparison that used most of its limit in all cases, and where its evidence is."""
    found = [(one, view.anchor) for view in views if (one := view.nearest) is not None]
    if not found:
        return None
    one, anchor = max(found, key=lambda pair: float(pair[0]["used"]))
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
    for found in view.diagnoses:
        if found["backend"] == run["backend"] and found["verdict"] != Verdict.AGREE:
            return str(found["anchor"])
    return f"{view.anchor}-census" if view.census else view.anchor


def _words(view: View, backend: str) -> str:
    against: dict[str, list[Verdict]] = {}
    for one in view.comparisons:
        sides = [one["left"], one["right"]]
        if backend in sides:
            sides.remove(backend)
            against.setdefault(sides[0], []).append(Verdict(one["verdict"]))
    agreeing = sum(combine(found) is Verdict.AGREE for found in against.values())
    blamed = any(found["culprit"] and found["culprit"]["name"] == backend for found in view.case["diagnoses"])
    others = f"with {agreeing} of {len(against)}" if against else "alone"
    return f"{others}; blamed" if blamed else others
