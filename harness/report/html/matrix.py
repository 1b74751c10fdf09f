"""The matrix of problems and backends, each cell with the words for its colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from harness.report.html.cases import View
from harness.verdict import Verdict, combine

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
        yield {
            "view": view,
            "cells": [_cell(view, runs[name]) if name in runs else None for name in backends(told)],
        }


def _cell(view: View, run: Row) -> Row:
    """A backend that trained is judged by its comparisons with the others."""
    if run["verdict"] != Verdict.AGREE:
        return {"verdict": run["verdict"], "words": "did not train", "anchor": view.anchor}
    against: dict[str, list[Verdict]] = {}
    for one in view.comparisons:
        sides = [one["left"], one["right"]]
        if run["backend"] in sides:
            sides.remove(run["backend"])
            against.setdefault(sides[0], []).append(Verdict(one["verdict"]))
    judged = {other: combine(found) for other, found in against.items()}
    verdict = combine(judged.values())
    return {"verdict": verdict.value, "words": _words(view, run["backend"], judged), "anchor": view.anchor}


def _words(view: View, backend: str, judged: dict[str, Verdict]) -> str:
    agreeing = sum(one is Verdict.AGREE for one in judged.values())
    wrong = any(found["culprit"] and found["culprit"]["name"] == backend for found in view.case["diagnoses"])
    others = f"with {agreeing} of {len(judged)}" if judged else "alone"
    return f"{others}; blamed" if wrong else others
