"""Which backend a disagreement is put down to, where a verdict for each backend alone is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lockstep.harness.core.verdict import Verdict, combine

Row = dict[str, Any]


def of_case(rows: list[Row], case: Row) -> list[Row]:
    """Those rows of a document that belong to a case."""
    return [row for row in rows if (row["problem"], row["dtype"]) == (case["problem"], case["dtype"])]


def verdicts(document: Row, case: Row) -> dict[str, Verdict]:
    """Each backend's own verdict: that of its run if it did not train, else the most severe of its comparisons.

    A comparison with an outsider (who agrees with nobody, where this one agrees with somebody) is the outsider's.
    """
    pairs = _pairs(of_case(document["comparisons"], case))
    outsiders = {name for name in _names(pairs) if not _agrees(name, pairs)}
    found = {}
    for run in of_case(document["runs"], case):
        name = run["backend"]
        if not run["losses"]:
            found[name] = Verdict(run["verdict"])
            continue
        own = dict(_of(name, pairs))
        if name not in outsiders:
            own = {other: verdict for other, verdict in own.items() if other not in outsiders}
        found[name] = combine(own.values())
    return found


def _pairs(comparisons: list[Row]) -> dict[tuple[str, str], Verdict]:
    """(left, right) -> the most severe verdict over all quantities."""
    pairs: dict[tuple[str, str], list[Verdict]] = {}
    for one in comparisons:
        pairs.setdefault((one["left"], one["right"]), []).append(Verdict(one["verdict"]))
    return {pair: combine(found) for pair, found in pairs.items()}


def _names(pairs: dict[tuple[str, str], Verdict]) -> set[str]:
    return {name for pair in pairs for name in pair}


def _of(name: str, pairs: dict[tuple[str, str], Verdict]) -> Iterator[tuple[str, Verdict]]:
    for (left, right), verdict in pairs.items():
        if name in (left, right):
            yield right if name == left else left, verdict


def _agrees(name: str, pairs: dict[tuple[str, str], Verdict]) -> bool:
    return any(verdict is Verdict.AGREE for _, verdict in _of(name, pairs))


def reason(document: Row, case: Row, backend: str) -> str:
    """Why a backend does not agree: where it first parts if that was found, else its worst comparison, or its run's reason."""
    for run in of_case(document["runs"], case):
        if run["backend"] == backend and run["reason"]:
            return ". ".join(filter(None, (run["reason"], run["fix"])))
    for found in case["diagnoses"]:
        if found["backend"] == backend and found["verdict"] != Verdict.AGREE:
            return str(found["sentence"])
    for one in of_case(document["comparisons"], case):
        if backend in (one["left"], one["right"]) and one["verdict"] != Verdict.AGREE:
            return f"{one['quantity']}, {one['left']} against {one['right']}: {one['reason']}"
    return str(case["reason"])
