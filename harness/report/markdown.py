"""The document as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from harness.report import figures
from harness.report.thin import shown_epochs

Row = dict[str, Any]

_COMPARED = (
    *("left", "right", "quantity", "verdict", "failing", "worst at", "left value", "right value"),
    *("absolute", "relative", "scaled", "ULP", "smallest rtol", "of limit", "would catch", "why"),
)


def render(document: dict[str, Any]) -> str:
    """The report as one Markdown text."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    total = sum(one["elements"] for one in document["comparisons"])
    yield f"# Parity: {document['verdict']}"
    yield ""
    yield (
        f"{len(document['cases'])} cases, {len(document['comparisons'])} comparisons of {total} values. "
        "A case is a problem in one dtype; all backends are compared pairwise."
    )
    yield ""
    yield from _table(
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
    yield from _environment(document["environment"])


def _case(document: dict[str, Any], case: Row) -> Iterator[str]:
    runs, comparisons = (
        [row for row in document[key] if (row["problem"], row["dtype"]) == (case["problem"], case["dtype"])]
        for key in ("runs", "comparisons")
    )
    yield f"## {_cell(case['problem'])}, {case['dtype']}: {case['verdict']}"
    yield ""
    for run in runs:
        if run["reason"]:
            yield _cell(f"- {run['backend']}: {run['verdict']}: {run['reason']}. {run['fix']}".rstrip(" ."))
            yield ""
    trained = [run for run in runs if run["losses"]]
    if trained:
        yield "### Losses"
        yield ""
        yield "Distance: the largest between any two, over max(|loss|, |first loss|)."
        yield ""
        yield from _table(
            (figures.step(case), *(run["backend"] for run in trained), "distance"), _losses(case, trained)
        )
        yield "### Parameters"
        yield ""
        yield from _table(
            ("parameter", *(run["backend"] for run in trained)),
            (
                (name, *(_values(run["parameters"].get(name)) for run in trained))
                for name in trained[0]["parameters"]
            ),
        )
    if comparisons:
        yield "### Comparisons"
        yield ""
        yield from _table(
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
    flat = _flat(value)
    shown = ", ".join(str(one) for one in flat[:limit])
    return shown if len(flat) <= limit else f"{shown}, ... ({len(flat)} values)"


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def _comparison(one: Row) -> Sequence[str]:
    worst = one["worst"]
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
    yield from _table(
        ("what", "value"),
        (
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in environment.items()
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line(row)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """Text that cannot break out of its cell: no line end, no bar, no markup."""
    flat = " ".join(text.split())
    for special in ("\\", "|", "`", "<", ">", "[", "]", "*", "_"):
        flat = flat.replace(
            special, f"\\{special}" if special not in "<>" else {"<": "&lt;", ">": "&gt;"}[special]
        )
    return flat
