"""The document as tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report import (
    attribution,
    left_out,
)
from lockstep.harness.report.thin import shown_epochs

STYLES = {
    "AGREE": "green",
    "DIFFER": "bold red",
    "ERROR": "bold red",
    "INCONCLUSIVE": "yellow",
    "SKIPPED": "yellow",
}

Row = dict[str, Any]


def render(document: dict[str, Any]) -> RenderableType:
    """One table of losses and one of comparisons for each case, then the verdict."""
    parts = [part for case in document["cases"] for part in _case(document, case)]
    recorded = [] if document["recorded"] is None else [*_recorded(document["recorded"])]
    return Group(*parts, *recorded, verdict_line(document))


def verdict_line(document: dict[str, Any]) -> Text:
    """The overall verdict, and the number of comparisons behind it."""
    verdict = document["verdict"]
    return Text.assemble(
        (verdict, STYLES[verdict]),
        figures.printable(left_out.of_cases(document["cases"])),
        f"  {len(document['cases'])} cases, {len(document['comparisons'])} comparisons of "
        f"{sum(one['elements'] for one in document['comparisons'])} values",
    )


def changes(
    headline: str, sections: Iterable[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
) -> RenderableType:
    """The changes between two reports: a table for each kind of change, then the conclusion."""
    parts: list[RenderableType] = []
    for title, columns, rows in sections:
        table = Table(
            *columns,
            title=title,
            title_justify="left",
            title_style="bold",
            box=None,
            header_style="bold",
            pad_edge=False,
        )
        for row in rows:
            table.add_row(*(escape(figures.printable(one)) for one in row))
        parts += [table, Text()]
    return Group(*parts, Text(headline))


def _recorded(recorded: Row) -> Iterator[RenderableType]:
    """What differs between this environment and the bundle's."""
    name = figures.printable(recorded["bundle"])
    if not recorded["changes"]:
        yield Text(f"the environment is the one that {name} was recorded in\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("environment", f"of {name}", "here"):
        table.add_column(escape(title))
    for row in recorded["changes"]:
        table.add_row(*(escape(figures.printable(one)) for one in row))
    yield table
    yield Text()


def _case(document: dict[str, Any], case: Row) -> Iterator[RenderableType]:
    runs = attribution.of_case(document["runs"], case)
    yield Text.assemble(
        (f"{figures.printable(case['problem'])} {case['dtype']}  ", "bold"),
        (case["verdict"], STYLES[case["verdict"]]),
        figures.printable(left_out.of_cases([case])),
        f"  {figures.printable(case['reason'])}" if case["reason"] else "",
    )
    if any(run["losses"] for run in runs):
        yield _losses(case, runs)
    if comparisons := attribution.of_case(document["comparisons"], case):
        yield _comparisons(case, comparisons)
    if case["certified"]:
        yield _own_errors(case["certified"], runs)
    for diagnosis in case["diagnoses"]:
        yield Text.assemble(
            "first divergence: ",
            (diagnosis["verdict"], STYLES[diagnosis["verdict"]]),
            f"  {figures.printable(diagnosis['sentence'])}",
        )
    for sentence in left_out.sentences(case):
        yield Text(figures.printable(sentence))
    for run in runs:
        if run["reason"]:
            fix = f"; {run['fix']}" if run["fix"] else ""
            yield Text.assemble(
                f"{run['backend']}: ",
                (run["verdict"], STYLES[run["verdict"]]),
                f": {figures.printable(run['reason'] + fix)}",
            )
    yield Text()


def _own_errors(certified: Row, runs: list[Row]) -> Text:
    if certified["reason"]:
        return Text(
            f"own errors: there is no proven reference trajectory: {figures.printable(certified['reason'])}"
        )
    described = (
        f"{run['backend']} {losses} (losses), {parameters} (parameters)"
        for run in runs
        if run["losses"]
        for losses, parameters in [figures.own_error(run["errors"])]
    )
    return Text(
        f"own errors in ULPs: {figures.printable('; '.join(described))}; reference proven at {certified['bits']} bits"
    )


def _losses(case: Row, runs: list[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    trained = [run for run in runs if run["losses"]]
    for title in (figures.step(case), *(run["backend"] for run in trained), "distance"):
        table.add_column(escape(title), justify="right", no_wrap=True)
    rows = list(zip_longest(*(run["losses"] for run in trained), case["distances"]))
    for epoch in shown_epochs(len(rows)):
        if epoch is None:
            table.add_row(*["..."] * (len(trained) + 2))
            continue
        *losses, distance = rows[epoch]
        shown = [figures.loss(value, case["dtype"]) for value in losses]
        table.add_row(str(epoch), *shown, figures.distance(distance))
    return table


def _comparisons(case: Row, comparisons: list[Row]) -> Table:
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        caption=f"tolerance: {figures.tolerance(case['tolerance'])}",
        caption_justify="left",
    )
    for title in (
        "compared",
        "quantity",
        "verdict",
        "failing",
        "worst at",
        "scaled",
        "relative",
        "ULP",
        "passes at",
        "of limit",
        "would catch",
    ):
        table.add_column(title, no_wrap=title != "quantity")
    for one in comparisons:
        worst = figures.worst(one)
        measured = (
            [
                figures.place(worst["index"], one["unit"]),
                figures.distance(worst["scaled"]),
                figures.distance(worst["relative"]),
                figures.ulps(worst["ulps"]),
                figures.distance(one["smallest_rtol"]),
                figures.share(one["used"]),
                figures.distance(one["detectable"]),
            ]
            if worst
            else [""] * 7
        )
        table.add_row(
            escape(f"{one['left']} / {one['right']}"),
            escape(one["quantity"]),
            Text(one["verdict"], STYLES[one["verdict"]]),
            f"{one['failing']} of {one['elements']}",
            *map(escape, measured),
        )
    return table
