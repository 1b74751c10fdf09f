"""The content of the page for one case: a problem in one dtype."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report.html import ledgers, values
from lockstep.harness.report.html.plots import Plots
from lockstep.harness.report.html.view import Row, View
from lockstep.harness.report.thin import shown_epochs

CENSUS, PLACES = 40, 40
"""Comparisons, and single elements of them, that a case shows."""

OPEN = 3
"""Cases that do not agree and are not folded up."""

DETAILED = 250
"""Cases that are shown in full, those that do not agree first; for any other only the verdict and the comparison nearest to its limit."""


def views(report: Row, plots: Plots) -> list[View]:
    """Every case, numbered, for names may repeat and may hold anything."""
    runs, comparisons = (_by_case(report[key]) for key in ("runs", "comparisons"))
    views_of_cases = []
    for number, case in enumerate(report["cases"], 1):
        key = (case["problem"], case["dtype"])
        own, compared = runs.get(key, []), comparisons.get(key, [])
        trained = [run for run in own if run["losses"]]
        views_of_cases.append(View(f"case-{number}", case, own, compared, trained))
    ranked = sorted(views_of_cases, key=lambda view: view.verdict == Verdict.AGREE)
    for view in ranked[DETAILED:]:
        view.brief = True
    for view in ranked[:DETAILED]:
        _detail(view, plots)
    _open(ranked)
    return views_of_cases


def _open(ranked: list[View]) -> None:
    """The first cases that do not agree; if all do, the first."""
    for view in [one for one in ranked[:OPEN] if one.verdict != Verdict.AGREE] or ranked[:1]:
        view.open = True


def _by_case(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["problem"], row["dtype"]), []).append(row)
    return grouped


def _detail(view: View, plots: Plots) -> None:
    """Fills in all that is shown of a case."""
    ranked = sorted(view.comparisons, key=_rank)
    view.losses = list(_losses(view.case, view.trained))
    view.parameters = values.parameters(view.dtype, view.trained)
    view.census = ranked[:CENSUS]
    view.passing = list(_passing(view.comparisons))
    view.places = list(_places(ranked))
    view.diagnoses = [
        {**one, "rows": ledgers.rows(one), "anchor": f"{view.anchor}-diagnosis-{number}"}
        for number, one in enumerate(view.case["diagnoses"], 1)
    ]
    view.own = {run["backend"]: figures.own_error(run["errors"]) for run in view.trained}
    view.plots = [one for one in (plots.losses(view), plots.distances(view), plots.errors(view)) if one]


def _rank(one: Row) -> tuple[int, float]:
    """Comparisons that do not agree first, then those nearest to their limit."""
    used = one["used"]
    share = float("inf") if isinstance(used, str) else 0.0 if used is None else used
    return tuple(Verdict).index(Verdict(one["verdict"])), -share


def _losses(case: Row, trained: list[Row]) -> Iterator[list[str]]:
    rows = list(zip_longest(*(run["losses"] for run in trained), case["distances"])) if trained else []
    for epoch in shown_epochs(len(rows)):
        if epoch is None:
            yield ["…"] * (len(trained) + 2)
        else:
            *losses, distance = rows[epoch]
            shown = [figures.loss(value, case["dtype"]) for value in losses]
            yield [str(epoch), *shown, figures.distance(distance)]


def _passing(comparisons: list[Row]) -> Iterator[Row]:
    """For each pair of backends, the smallest tolerances at which everything passes, and the quantities that need them."""
    pairs: dict[tuple[str, str], list[Row]] = {}
    for one in comparisons:
        if one["smallest_rtol"] is not None:
            pairs.setdefault((one["left"], one["right"]), []).append(one)
    for (left, right), rows in pairs.items():
        rtol = max(rows, key=lambda one: _size(one["smallest_rtol"]))
        atol = max(rows, key=lambda one: _size(one["smallest_atol"]))
        yield {"left": left, "right": right, "rtol": rtol, "atol": atol}


def _size(value: float | str | None) -> float:
    return float("inf") if isinstance(value, str) else value or 0.0


def _places(ranked: list[Row]) -> Iterator[tuple[Row, Row]]:
    """The worst places of each comparison that does not agree; if all do, of the one nearest to its limit."""
    differing = [one for one in ranked if one["verdict"] != Verdict.AGREE and one["places"]]
    shown = differing or [one for one in ranked if one["places"]][:1]
    each = max(PLACES // max(len(shown), 1), 1)
    for one in shown[:PLACES]:
        yield from ((one, place) for place in one["places"][:each])
