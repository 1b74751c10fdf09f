"""The document as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report import (
    attribution,
    left_out,
)
from lockstep.harness.report import (
    bench_markdown as benchmark,
)
from lockstep.harness.report.thin import shown_epochs

Row = dict[str, Any]

LEDGER = 20
"""Rows of a ledger that are shown."""

_COMPARED = (
    *("left", "right", "quantity", "verdict", "failing", "worst at", "left value", "right value"),
    *("absolute", "relative", "scaled", "ULP", "smallest rtol", "of limit", "would catch", "why"),
)


def render(document: dict[str, Any]) -> str:
    """The report as one Markdown text."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    total = sum(one["elements"] for one in document["comparisons"])
    yield cell(f"# Parity: {document['verdict']}{left_out.of_cases(document['cases'])}")
    yield ""
    yield (
        f"{len(document['cases'])} cases, {len(document['comparisons'])} comparisons of {total} values. "
        "A case is a problem in one dtype; all backends are compared pairwise."
    )
    yield ""
    yield from table(
        ("problem", "dtype", "epochs", "verdict", "tolerance", "why"),
        (
            (
                case["problem"],
                case["dtype"],
                str(case["epochs"]),
                case["verdict"],
                figures.tolerance(case["tolerance"]),
                case["reason"],
            )
            for case in document["cases"]
        ),
    )
    for case in document["cases"]:
        yield from _case(document, case)
    if document["recorded"] is not None:
        yield from _recorded(document["recorded"])
    yield from benchmark.within(document)
    yield from _environment(document["environment"])


def _recorded(recorded: Row) -> Iterator[str]:
    """What differs between this environment and the bundle's."""
    yield f"## Recorded in {cell(recorded['bundle'])}"
    yield ""
    if recorded["changes"]:
        yield from table(("environment", "recorded", "here"), recorded["changes"])
    else:
        yield "The environment is the same."
        yield ""


def _case(document: dict[str, Any], case: Row) -> Iterator[str]:
    runs, comparisons = (attribution.of_case(document[key], case) for key in ("runs", "comparisons"))
    yield f"## {cell(case['problem'])}, {case['dtype']}: {case['verdict']}"
    yield ""
    for run in runs:
        if run["reason"]:
            yield cell(f"- {run['backend']}: {run['verdict']}: {run['reason']}. {run['fix']}".rstrip(" ."))
            yield ""
    for sentence in left_out.sentences(case):
        yield cell(f"- {sentence}")
        yield ""
    trained = [run for run in runs if run["losses"]]
    if trained:
        yield "### Losses"
        yield ""
        yield "Distance: the largest between any two, over max(|loss|, |first loss|)."
        yield ""
        yield from table(
            (figures.step(case), *(run["backend"] for run in trained), "distance"), _losses(case, trained)
        )
        yield "### Parameters"
        yield ""
        yield from table(
            ("parameter", *(run["backend"] for run in trained)),
            (
                (name, *(_values(run["parameters"].get(name)) for run in trained))
                for name in trained[0]["parameters"]
            ),
        )
    if case["certified"]:
        yield from _own_errors(case["certified"], trained)
    for diagnosis in case["diagnoses"]:
        yield from _diagnosis(diagnosis)
    if comparisons:
        yield "### Comparisons"
        yield ""
        yield from table(
            _COMPARED,
            map(_comparison, comparisons),
        )


def _losses(case: Row, trained: list[Row]) -> Iterator[Sequence[str]]:
    rows = list(zip_longest(*(run["losses"] for run in trained), case["distances"]))
    for epoch in shown_epochs(len(rows)):
        if epoch is None:
            yield ["..."] * (len(trained) + 2)
        else:
            *losses, distance = rows[epoch]
            shown = [figures.loss(value, case["dtype"]) for value in losses]
            yield [str(epoch), *shown, figures.distance(distance)]


def _values(value: Any, limit: int = 8) -> str:
    flat = [] if value is None else list(figures.flattened(value))
    shown = ", ".join(str(one) for one in flat[:limit])
    return shown if len(flat) <= limit else f"{shown}, ... ({len(flat)} values)"


def _own_errors(certified: Row, trained: list[Row]) -> Iterator[str]:
    yield "### Own errors"
    yield ""
    if certified["reason"]:
        yield cell(f"There is no proven reference trajectory: {certified['reason']}.")
        yield ""
        return
    yield f"The largest error in ULPs of the scale, against a reference trajectory proven at {certified['bits']} bits."
    yield ""
    yield from table(
        ("backend", "losses", "parameters"),
        ((run["backend"], *figures.own_error(run["errors"])) for run in trained),
    )


def _diagnosis(diagnosis: Row) -> Iterator[str]:
    yield f"### First divergence of {cell(diagnosis['backend'])} from {cell(diagnosis['reference'])}"
    yield ""
    yield cell(f"{diagnosis['verdict']}: {diagnosis['sentence']}.")
    yield ""
    rows = [row for row in (*diagnosis["ledger"], *diagnosis["free"]) if row["verdict"] != "AGREE"]
    if rows:
        yield from table(
            ("step", "stage", "verdict", "distance", "allowed", "follows", "why"),
            (
                (
                    str(row["step"]),
                    row["stage"],
                    row["verdict"],
                    figures.distance(row["distance"]),
                    figures.distance(row["allowed"]),
                    row["follows"],
                    row["reason"],
                )
                for row in rows[:LEDGER]
            ),
        )
    if len(rows) > LEDGER:
        yield f"and {len(rows) - LEDGER} more rows, which the JSON has."
        yield ""


def _comparison(one: Row) -> Sequence[str]:
    worst = figures.worst(one)
    head = [
        one["left"],
        one["right"],
        one["quantity"],
        one["verdict"],
        f"{one['failing']} of {one['elements']}",
    ]
    if worst is None:
        return [*head, *[""] * 10, one["reason"]]
    return [
        *head,
        figures.place(worst["index"], one["unit"]),
        str(worst["left"]),
        str(worst["right"]),
        figures.distance(worst["absolute"]),
        figures.distance(worst["relative"]),
        figures.distance(worst["scaled"]),
        figures.ulps(worst["ulps"]),
        figures.distance(one["smallest_rtol"]),
        figures.share(one["used"]),
        figures.distance(one["detectable"]),
        one["reason"],
    ]


def _environment(environment: Row) -> Iterator[str]:
    yield "## Environment"
    yield ""
    yield from table(
        ("what", "value"),
        (
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in environment.items()
        ),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, and an empty one."""
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line(row)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(cell, cells)) + " |"


def cell(text: str) -> str:
    """Text that cannot break out of its cell: no line end, no bar, no markup, no control character as such."""
    flat = figures.printable(" ".join(text.split()))
    for special in ("\\", "|", "`", "<", ">", "[", "]", "*", "_"):
        flat = flat.replace(
            special, f"\\{special}" if special not in "<>" else {"<": "&lt;", ">": "&gt;"}[special]
        )
    return flat
