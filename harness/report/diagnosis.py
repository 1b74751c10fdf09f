"""A diagnosis as a JSON document, and as a table in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lockstep.harness.core.ledger import Row
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.documents.numbers import (
    number,
)
from lockstep.harness.report.terminal import STYLES

Document = dict[str, Any]

_HEADINGS = ("stage", "verdict", "compared", "step", "part", "index", "distance", "allowed", "reason")


def to_document(diagnosis: Diagnosis) -> Document:
    """The diagnosis as JSON values."""
    culprit, explanation = diagnosis.culprit, diagnosis.explanation
    return {
        "problem": diagnosis.problem.name,
        "dtype": diagnosis.problem.dtype,
        "reference": diagnosis.reference,
        "backend": diagnosis.backend,
        "verdict": diagnosis.verdict,
        "kind": diagnosis.kind,
        "sentence": diagnosis.sentence,
        "first": _row(diagnosis.first) if diagnosis.first else None,
        "culprit": {"name": culprit.name, "reason": culprit.reason} if culprit else None,
        "explanation": {"name": explanation.name, "does": explanation.description} if explanation else None,
        "steps": diagnosis.ledger.steps,
        "ledger": [_row(row) for row in diagnosis.ledger.rows],
        "free": [_row(row) for row in diagnosis.free.rows],
        "exchanged": [_row(row) for row in diagnosis.exchanged.rows],
        "carried": {name: [_row(row) for row in one.rows] for name, one in diagnosis.carried.items()},
    }


def _row(row: Row) -> Document:
    return {
        "step": row.step,
        "stage": row.name,
        "verdict": row.verdict,
        "reason": row.reason,
        "follows": row.follows,
        "index": list(row.index),
        "left": number(row.left),
        "right": number(row.right),
        "absolute": number(row.absolute),
        "distance": number(row.distance),
        "limit": number(row.limit),
        "allowed": number(row.limit / row.scale if row.scale else row.limit),
    }


def render(document: Document) -> RenderableType:
    """The verdict and the sentence, the culprit, the explanation, and a line for each stage of each ledger."""
    head = Text.assemble(
        (f"{figures.printable(document['problem'])} {document['dtype']}  ", "bold"),
        (document["verdict"], STYLES[document["verdict"]]),
        f"  {document['kind']}",
    )
    return Group(
        head, Text(figures.printable(document["sentence"])), *_findings(document), Text(), _table(document)
    )


def _findings(document: Document) -> Iterator[Text]:
    culprit, explanation = document["culprit"], document["explanation"]
    if culprit:
        yield Text(f"culprit: {culprit['name'] or 'not known'} ({culprit['reason']})")
    if explanation:
        yield Text(f"explanation: {explanation['name']}, confirmed by training: it {explanation['does']}")
    elif document["verdict"] == Verdict.DIFFER:
        yield Text("explanation: no known mistake was confirmed by training")


def _table(document: Document) -> Table:
    compared = ", ".join(map(str, document["steps"])) or "none"
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        caption=f"steps in lockstep: {compared}",
        caption_justify="left",
    )
    for title in _HEADINGS:
        table.add_column(title, no_wrap=title != "reason")
    _add(table, "", document["ledger"])
    _add(table, "exchanged: ", document["exchanged"])
    _add(table, "", document["free"])
    for name, rows in document["carried"].items():
        _add(table, f"{name}: ", rows)
    return table


def _add(table: Table, prefix: str, rows: list[Document]) -> None:
    """One line for each kind of stage: its first row that is blamed, else the first that is not AGREE, else the one with the largest distance."""
    by_kind: dict[str, list[Document]] = {}
    for row in rows:
        by_kind.setdefault(row["stage"].partition("/")[0], []).append(row)
    for kind, all_of_it in by_kind.items():
        shown = _shown(all_of_it)
        reason = f"follows from {shown['follows']}" if shown["follows"] else shown["reason"]
        table.add_row(
            escape(prefix + kind),
            Text(shown["verdict"], STYLES[shown["verdict"]]),
            str(len(all_of_it)),
            str(shown["step"]),
            escape(shown["stage"].partition("/")[2]),
            escape(str(shown["index"])) if shown["index"] else "",
            figures.distance(shown["distance"]),
            figures.distance(shown["allowed"]),
            escape(figures.printable(reason)),
        )


def _shown(rows: list[Document]) -> Document:
    differ = [row for row in rows if row["verdict"] == Verdict.DIFFER]
    blamed = [row for row in differ if not row["follows"]]
    others = [row for row in rows if row["verdict"] != Verdict.AGREE]
    by_distance = sorted(
        rows, key=lambda row: -row["distance"] if isinstance(row["distance"], float) else 0.0
    )
    return next(iter((*blamed, *differ, *others, *by_distance)))
