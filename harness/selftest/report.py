"""The self-test's figures as a document, and the document as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.report import figures
from harness.selftest.score import CleanRun, Finding, Rate
from harness.verdict import Verdict

Document = dict[str, Any]


def document(
    findings: Sequence[Finding], runs: Sequence[CleanRun], curve: Mapping[float, Verdict]
) -> Document:
    """Rates, and everything that was missed, misplaced or alarmed."""
    owed = [one for one in findings if one.explained is not None]
    double = [one for one in runs if one.dtype == "float64"]
    return {
        "mutants": {
            "kinds": len({one.mutant for one in findings}),
            "missed": _rate(sum(not one.found for one in findings), len(findings)),
            "misplaced": _rate(sum(not one.placed for one in findings), len(findings)),
            "unexplained": _rate(sum(not one.explained for one in owed), len(owed)),
            "findings": [asdict(one) for one in findings],
        },
        "clean": {
            "alarms": _rate(sum(one.verdict is Verdict.DIFFER for one in runs), len(runs)),
            "undecided_float64": _rate(
                sum(one.verdict is Verdict.INCONCLUSIVE for one in double), len(double)
            ),
            "other": [asdict(one) for one in runs if one.verdict is not Verdict.AGREE],
        },
        "detection": [{"change": change, "verdict": verdict} for change, verdict in curve.items()],
    }


def _rate(hits: int, trials: int) -> Document:
    rate = Rate(hits, trials)
    return {"hits": hits, "trials": trials, "upper": rate.upper if trials else None, "words": str(rate)}


def passed(told: Document) -> bool:
    """No mutant missed, no clean run alarmed."""
    return not told["mutants"]["missed"]["hits"] and not told["clean"]["alarms"]["hits"]


def render(told: Document) -> RenderableType:
    """What was missed or misplaced, what alarmed, then the rates."""
    rates = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("measured", "hits of trials (rate, its upper 95 % bound)"):
        rates.add_column(title)
    mutants, clean = told["mutants"], told["clean"]
    for name, rate in (
        (f"of {mutants['kinds']} planted bugs: missed", mutants["missed"]),
        ("named at another stage", mutants["misplaced"]),
        ("without the right explanation, where there is one", mutants["unexplained"]),
        ("clean runs that alarmed", clean["alarms"]),
        ("clean runs in float64 that could not be judged", clean["undecided_float64"]),
    ):
        if rate["trials"]:
            rates.add_row(name, rate["words"])
    return Group(*_misses(mutants["findings"]), *_alarms(clean["other"]), rates, *_curve(told["detection"]))


def _misses(findings: Sequence[Document]) -> list[RenderableType]:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("planted", "problem", "found", "stage named", "explanation"):
        table.add_column(title)
    for one in findings:
        if not (one["found"] and one["placed"] and one["explained"] is not False):
            found = "found" if one["found"] else "MISSED"
            table.add_row(
                *map(
                    escape,
                    (one["mutant"], one["problem"], found, one["stage"] or "-", one["explanation"] or "-"),
                )
            )
    return [table, Text()] if table.row_count else []


def _alarms(runs: Sequence[Document]) -> list[RenderableType]:
    lines = [
        Text(figures.printable(f"{one['problem']} {one['dtype']}: {one['verdict']}: {one['reason']}"))
        for one in runs
    ]
    return [*lines, Text()] if lines else []


def _curve(points: Sequence[Document]) -> list[RenderableType]:
    if not points:
        return []
    seen = [one["change"] for one in points if one["verdict"] == Verdict.DIFFER]
    least = f"{min(seen):.0e}" if seen else "none"
    return [Text(f"the smallest relative change of the learning rate that was found on the seed: {least}")]
