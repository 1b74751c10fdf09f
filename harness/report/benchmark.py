"""A benchmark within a report: no time beside a verdict of the report that is not AGREE, and where each of the two was found.

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
    """One fact of the benchmark's environment beside the report's own; `here` is None where the report does not tell it."""

    what: str
    here: str | None
    there: str

    @property
    def differs(self) -> bool:
        return self.here is not None and self.here != self.there


def attached(told: Document, benchmark: Document) -> Document:
    """The report with a benchmark in it, in the place of any that it had."""
    return {**told, "benchmark": judged(benchmark, told)}


def of(told: Mapping[str, Any]) -> Document | None:
    """The benchmark in a report, as far as the report lets its times be shown; None where there is none."""
    found = told.get("benchmark")
    return None if found is None else judged(found, told)


def judged(benchmark: Document, told: Mapping[str, Any]) -> Document:
    """The benchmark without any time of what the report has with another verdict than AGREE: that verdict is in its place.

    A run is found in the report by its problem's name, its dtype and its backend, whatever its size.
    """
    refused = _refused(told, {(one["problem"], one["dtype"]) for one in benchmark["entries"]})
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


def elsewhere(benchmark: Document, told: Mapping[str, Any]) -> int:
    """How many of the benchmark's runs are of problems, dtypes or backends that the report has not."""
    known = {_key(run) for run in told["runs"]}
    return sum(_key(one) not in known for one in benchmark["entries"])


def environment(benchmark: Document, told: Mapping[str, Any]) -> list[Fact]:
    """Every fact of the benchmark's environment, those first that differ from the report's."""
    backends = {one["backend"]: one["environment"] for one in benchmark["entries"] if one["environment"]}
    here = dict(facts(told["environment"]))
    there = facts(
        {**benchmark["environment"], "backends": backends} if backends else benchmark["environment"]
    )
    return sorted(
        (Fact(what, here.get(what), value) for what, value in there), key=lambda one: not one.differs
    )


def sentences(benchmark: Document, told: Mapping[str, Any]) -> list[str]:
    """What must be known of a benchmark that stands in a report."""
    differing = [one.what for one in environment(benchmark, told) if one.differs]
    where = (
        f"in another environment than this report's: {', '.join(differing)}"
        if differing
        else ("in the environment of this report, as far as both tell it")
    )
    said = [f"It was measured apart from the comparisons, {where}."]
    if count := elsewhere(benchmark, told):
        said.append(
            f"Of its {len(benchmark['entries'])} runs {count} are of a problem, dtype or backend that this report has not; "
            "their verdicts are of the benchmark's own comparison."
        )
    return said


def _refused(told: Mapping[str, Any], cases: set[tuple[str, str]]) -> dict[Key, tuple[str, str]]:
    """The verdict and its reason of everything in the report that does not agree, in these cases."""
    found = {}
    for case in told["cases"]:
        if (case["problem"], case["dtype"]) in cases:
            for backend, verdict in attribution.verdicts(dict(told), case).items():
                if verdict is not Verdict.AGREE:
                    reason = attribution.reason(dict(told), case, backend)
                    found[case["problem"], case["dtype"], backend] = verdict.value, reason
    return found


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
