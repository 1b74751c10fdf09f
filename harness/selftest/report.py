"""The self-test's figures as a document, and the document as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.documents.numbers import (
    number,
)
from lockstep.harness.environment.manifest import lockstep_version
from lockstep.harness.selftest.score import CleanRun, Finding, Rate

Document = dict[str, Any]

RATES = (
    ("mutants", "missed", "planted bugs that were missed"),
    ("mutants", "misplaced", "named at another stage"),
    ("mutants", "unexplained", "without the right explanation, where there is one"),
    ("clean", "alarms", "clean runs that alarmed"),
    ("clean", "diverged", "clean runs in which every backend diverged"),
    ("clean", "undecided_float64", "clean runs in float64 that could not be judged, though well-posed"),
    ("clean", "ill_posed_float64", "clean runs in float64 that have no definite trajectory"),
)
"""What is measured: section, key, words."""


def document(
    findings: Sequence[Finding], runs: Sequence[CleanRun], curve: Mapping[float, Verdict]
) -> Document:
    """Rates, and everything that was missed, misplaced or alarmed."""
    return {
        "lockstep": lockstep_version(),
        "mutants": {
            dtype: _mutants([one for one in findings if one.dtype == dtype])
            for dtype in dict.fromkeys(one.dtype for one in findings)
        },
        "clean": _clean(runs),
        "detection": [{"change": change, "verdict": verdict} for change, verdict in curve.items()],
        "findings": [{**asdict(one), "used": number(one.used)} for one in findings],
        "not_agreeing": [asdict(one) for one in runs if one.verdict is not Verdict.AGREE],
    }


def _mutants(findings: Sequence[Finding]) -> Document:
    owed = [one for one in findings if one.explained is not None]
    return {
        "kinds": len({one.mutant for one in findings}),
        "missed": _rate(sum(not one.found for one in findings), len(findings)),
        "misplaced": _rate(sum(one.found and not one.placed for one in findings), len(findings)),
        "unexplained": _rate(sum(one.found and not one.explained for one in owed), len(owed)),
    }


def _clean(runs: Sequence[CleanRun]) -> Document:
    double = [one for one in runs if one.dtype == "float64"]
    posed = [one for one in double if not one.ill_posed]
    return {
        "alarms": _rate(sum(one.alarms for one in runs), len(runs)),
        "diverged": _rate(sum(one.diverged for one in runs), len(runs)),
        "undecided_float64": _rate(sum(one.verdict is Verdict.INCONCLUSIVE for one in posed), len(posed)),
        "ill_posed_float64": _rate(len(double) - len(posed), len(double)),
    }


def _rate(hits: int, trials: int) -> Document:
    rate = Rate(hits, trials)
    return {"hits": hits, "trials": trials, "upper": rate.upper if trials else None, "words": str(rate)}


def digest(score: Document) -> Document:
    """The figures without the single findings: what a report cites."""
    return {key: score[key] for key in ("lockstep", "mutants", "clean", "detection")}


def passed(score: Document) -> bool:
    """In float64 no mutant missed, no clean run alarmed; in float32 a bug below the limit cannot be found."""
    double = score["mutants"].get("float64")
    missed = double["missed"]["hits"] if double else 0
    return not missed and not score["clean"]["alarms"]["hits"]


def rows(score: Document) -> Iterator[tuple[str, str]]:
    """Each rate in words and figures."""
    for section, key, words in RATES:
        if section == "clean":
            rates = {words: score["clean"][key]}
        else:
            rates = {
                f"{dtype}, {one['kinds']} kinds: {words}": one[key] for dtype, one in score["mutants"].items()
            }
        yield from ((name, rate["words"]) for name, rate in rates.items() if rate["trials"])
    if score["detection"]:
        yield "smallest relative change of the learning rate found on the seed in ten epochs", smallest(score)


def smallest(score: Document) -> str:
    """The end of the detection curve."""
    found = [one["change"] for one in score["detection"] if one["verdict"] == Verdict.DIFFER]
    return f"{min(found):.0e}" if found else "none"


def render(score: Document) -> RenderableType:
    """What was missed or misplaced, what alarmed, then the rates."""
    rates = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("measured", "hits of trials (rate, its upper 95 % bound)"):
        rates.add_column(title)
    for row in rows(score):
        rates.add_row(*row)
    return Group(*_misses(score["findings"]), *_alarms(score["not_agreeing"]), rates)


def _misses(findings: Sequence[Document]) -> list[RenderableType]:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("planted", "problem", "dtype", "found", "of limit", "stage named", "explanation"):
        table.add_column(title)
    for one in findings:
        if not (one["found"] and one["placed"] and one["explained"] is not False):
            cells = (
                *(one["mutant"], one["problem"], one["dtype"], "found" if one["found"] else "MISSED"),
                *(figures.share(one["used"]), one["stage"] or "-", one["explanation"] or "-"),
            )
            table.add_row(*map(escape, cells))
    return [table, Text()] if table.row_count else []


def _alarms(runs: Sequence[Document]) -> list[RenderableType]:
    lines = [
        Text(
            figures.printable(
                f"{one['problem']} {one['dtype']}: {one['verdict']}"
                f"{' (ill-posed)' if one['ill_posed'] else ''}: {one['reason']}"
            )
        )
        for one in runs
    ]
    return [*lines, Text()] if lines else []
