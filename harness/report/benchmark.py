"""A benchmark within a report: no time next to a verdict of the report that is not AGREE, and where each was measured.

The benchmark stays a document of its own there (``bench.schema.json``), with the environment that it was measured in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.report import attribution
from lockstep.harness.report.facts import facts

Document = dict[str, Any]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Fact:
    """One fact of the benchmark's environment next to the report's own; `here` is None where the report does not state it."""

    what: str
    here: str | None
    there: str

    @property
    def differs(self) -> bool:
        return self.here is not None and self.here != self.there


def attached(report: Document, benchmark: Document) -> Document:
    """The report with a benchmark in it, in the place of any that it had."""
    return {**report, "benchmark": judged(benchmark, report)}


def in_report(report: Mapping[str, Any]) -> Document | None:
    """The benchmark in a report, as far as the report lets its times be shown; None where there is none."""
    stored = report.get("benchmark")
    return None if stored is None else judged(stored, report)


def judged(benchmark: Document, report: Mapping[str, Any]) -> Document:
    """The benchmark without the times of runs whose verdict in the report is not AGREE: that verdict replaces them.

    A run matches a run of the report by its problem's name, its dtype and its backend, whatever its size.
    """
    refused = _refused(report, {(one["problem"], one["dtype"]) for one in benchmark["entries"]})
    entries = [_entry(one, refused.get(_key(one))) for one in benchmark["entries"]]
    against = benchmark["against"]
    return {
        **benchmark,
        "agrees": all(one["verdict"] == Verdict.AGREE for one in entries),
        "entries": entries,
        "growth": [one for one in benchmark["growth"] if _key(one) not in refused],
        "against": against
        and {**against, "rows": [_ratio(one, refused.get(_key(one))) for one in against["rows"]]},
    }


def elsewhere(benchmark: Document, report: Mapping[str, Any]) -> int:
    """How many of the benchmark's runs are of problems, dtypes or backends that the report does not have."""
    known = {_key(run) for run in report["runs"]}
    return sum(_key(one) not in known for one in benchmark["entries"])


def environment(benchmark: Document, report: Mapping[str, Any]) -> list[Fact]:
    """Every fact of the benchmark's environment, those first that differ from the report's."""
    backends = {one["backend"]: one["environment"] for one in benchmark["entries"] if one["environment"]}
    here = dict(facts(report["environment"]))
    there = facts(
        {**benchmark["environment"], "backends": backends} if backends else benchmark["environment"]
    )
    return sorted(
        (Fact(what, here.get(what), value) for what, value in there), key=lambda one: not one.differs
    )


def sentences(benchmark: Document, report: Mapping[str, Any]) -> list[str]:
    """What a reader must know about a benchmark in a report."""
    differing = [one.what for one in environment(benchmark, report) if one.differs]
    where = (
        f"in another environment than this report's: {', '.join(differing)}"
        if differing
        else ("in the environment of this report, as far as both state it")
    )
    lines = [f"It was measured separately from the comparisons, {where}."]
    if count := elsewhere(benchmark, report):
        lines.append(
            f"{count} of its {len(benchmark['entries'])} runs are of a problem, dtype or backend that this report does not have; "
            "their verdicts come from the benchmark's own comparison."
        )
    return lines


def _refused(report: Mapping[str, Any], cases: set[tuple[str, str]]) -> dict[Key, tuple[str, str]]:
    """The verdict and its reason of every run of these cases that does not agree in the report."""
    refused = {}
    for case in report["cases"]:
        if (case["problem"], case["dtype"]) in cases:
            for backend, verdict in attribution.verdicts(dict(report), case).items():
                if verdict is not Verdict.AGREE:
                    reason = attribution.reason(dict(report), case, backend)
                    refused[case["problem"], case["dtype"], backend] = verdict.value, reason
    return refused


def _key(one: Mapping[str, Any]) -> Key:
    return one["problem"], one["dtype"], one["backend"]


def _entry(one: Document, refusal: tuple[str, str] | None) -> Document:
    if one["verdict"] != Verdict.AGREE:
        return {**one, "figures": None, "repetitions": []}
    if refusal is None:
        return one
    verdict, reason = refusal
    return {
        **one,
        "verdict": verdict,
        "reason": f"in this report{f': {reason}' if reason else ''}",
        "figures": None,
        "repetitions": [],
    }


def _ratio(row: Document, refusal: tuple[str, str] | None) -> Document:
    if refusal is None:
        return row
    nothing: Document = {"ratio": None, "interval": None, "coverage": None, "regressed": False}
    return {**row, **nothing, "reason": f"{refusal[0]} in this report"}
