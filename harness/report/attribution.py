"""Which backend a disagreement is attributed to, for a verdict on each backend alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict, combine

Row = dict[str, Any]


def of_case(rows: list[Row], case: Row) -> list[Row]:
    """The rows of a document that belong to a case."""
    return [row for row in rows if (row["problem"], row["dtype"]) == (case["problem"], case["dtype"])]


def verdicts(document: Row, case: Row) -> dict[str, Verdict]:
    """Each backend's own verdict: that of its run if it did not train, else the most severe of its comparisons.

    A comparison with an outsider (a backend that agrees with no other, while this one agrees with another) counts for the outsider only.
    """
    pairs = _pairs(of_case(document["comparisons"], case))
    outsiders = {name for name in _names(pairs) if not _agrees(name, pairs)}
    by_backend = {}
    for run in of_case(document["runs"], case):
        name = run["backend"]
        if not run["losses"]:
            by_backend[name] = Verdict(run["verdict"])
            continue
        own = dict(_of(name, pairs))
        if name not in outsiders:
            own = {other: verdict for other, verdict in own.items() if other not in outsiders}
        by_backend[name] = combine(own.values())
    return by_backend


def _pairs(comparisons: list[Row]) -> dict[tuple[str, str], Verdict]:
    """(left, right) -> the most severe verdict over all quantities."""
    pairs: dict[tuple[str, str], list[Verdict]] = {}
    for one in comparisons:
        pairs.setdefault((one["left"], one["right"]), []).append(Verdict(one["verdict"]))
    return {pair: combine(verdicts) for pair, verdicts in pairs.items()}


def _names(pairs: dict[tuple[str, str], Verdict]) -> set[str]:
    return {name for pair in pairs for name in pair}


def _of(name: str, pairs: dict[tuple[str, str], Verdict]) -> Iterator[tuple[str, Verdict]]:
    for (left, right), verdict in pairs.items():
        if name in (left, right):
            yield right if name == left else left, verdict


def _agrees(name: str, pairs: dict[tuple[str, str], Verdict]) -> bool:
    return any(verdict is Verdict.AGREE for _, verdict in _of(name, pairs))


def reason(document: Row, case: Row, backend: str) -> str:
    """Why a backend does not agree: where it first diverges if a diagnosis found that, else its worst comparison, or its run's reason."""
    for run in of_case(document["runs"], case):
        if run["backend"] == backend and run["reason"]:
            return ". ".join(filter(None, (run["reason"], run["fix"])))
    for diagnosis in case["diagnoses"]:
        if diagnosis["backend"] == backend and diagnosis["verdict"] != Verdict.AGREE:
            return str(diagnosis["sentence"])
    for one in of_case(document["comparisons"], case):
        if backend in (one["left"], one["right"]) and one["verdict"] != Verdict.AGREE:
            return f"{one['quantity']}, {one['left']} against {one['right']}: {one['reason']}"
    return str(case["reason"])
