"""A benchmark compared with an older one: ratios of times with intervals, and whether they mean anything."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lockstep.harness.benchmark import units
from lockstep.harness.benchmark.interval import LEVEL

Document = dict[str, Any]

MACHINE = ("cpu", "cores", "platform", "python", "numpy", "byte_order")
"""Facts of the environment that must be equal, besides threads, processors and the backends' own facts."""

DRIFT = 1.2
"""A machine that copies or multiplies so many times faster or slower than it did is busy with something else. The same code,
timed at a load of 2.4 and again at 9.3, had a ratio of 1.5; the rate of its matrix products had one of 0.65."""


def compare(new: Document, old: Document, fail_over: float | None = None) -> Document:
    """The part ``against`` of the new document.

    Args:
        new: what was measured now.
        old: what was measured before.
        fail_over: the ratio of new to old above which a time is a regression, if its interval lies above 1.
    """
    before = {_key(one): one for one in old["entries"]}
    differ = [*_differences(new, old)]
    rows = [_row(one, before.get(_key(one)), fail_over) for one in new["entries"]]
    return {
        "command": old["command"],
        "lockstep": old["environment"].get("git_commit"),
        "valid": not differ,
        "differ": differ,
        "fail_over": fail_over,
        "rows": rows,
    }


def regressed(document: Document) -> bool:
    """Whether a gate was requested, is valid, and a time is beyond it."""
    against = document["against"]
    return bool(against) and against["valid"] and any(row["regressed"] for row in against["rows"])


def unjudged(document: Document) -> bool:
    """Whether a gate was requested and could not be applied to every time."""
    against = document["against"]
    if not against or against["fail_over"] is None:
        return False
    return not against["valid"] or any(row["ratio"] is None for row in against["rows"])


def ratio(new: Sequence[float], old: Sequence[float]) -> tuple[float, float, float, float]:
    """The ratio of new to old, the ends of its interval, and its coverage (Hodges, Lehmann 1963).

    The median of all ratios of a new to an old value; the interval is of those ratios whose ranks Mann and Whitney's
    statistic gives, and assumes only that both have one distribution up to the factor. Where so few values cannot
    have LEVEL, it spans all ratios.
    """
    ratios = sorted(left / right for left in new for right in old)
    counts = _ranks(len(new), len(old))
    rank, outside, total = 0, 0.0, sum(counts)
    while 2 * (outside + counts[rank]) <= (1 - LEVEL) * total and rank < (len(ratios) - 1) // 2:
        outside += counts[rank]
        rank += 1
    if not rank:
        return statistics.median(ratios), ratios[0], ratios[-1], max(0.0, 1 - 2 * counts[0] / total)
    return statistics.median(ratios), ratios[rank - 1], ratios[-rank], 1 - 2 * outside / total


def _ranks(left: int, right: int) -> list[int]:
    """How many orders of so many values give each value of Mann and Whitney's U: a Gaussian binomial's coefficients."""
    counts = [1] + [0] * (left * right)
    for step in range(1, left + 1):
        for index in range(left * right, right + step - 1, -1):  # times 1 − q^(right + step)
            counts[index] -= counts[index - right - step]
        for index in range(step, left * right + 1):  # over 1 − q^step
            counts[index] += counts[index - step]
    return counts


def _key(entry: Document) -> tuple[str, str, str]:
    return entry["backend"], entry["dtype"], entry["sha256"]


def _row(new: Document, old: Document | None, fail_over: float | None) -> Document:
    row = {key: new[key] for key in ("problem", "dtype", "backend", "size")}
    if old is None:
        return {**row, **_unknown("not in the baseline")}
    if not (new["figures"] and old["figures"]):
        return {**row, **_unknown("no time in the baseline" if new["figures"] else "no time now")}
    middle, low, high, coverage = ratio(*(_seconds(one) for one in (new, old)))
    beyond = fail_over is not None and middle > fail_over and low > 1
    return {
        **row,
        "ratio": middle,
        "interval": [low, high],
        "coverage": coverage,
        "regressed": beyond,
        "reason": "",
    }


def _unknown(reason: str) -> Document:
    return {"ratio": None, "interval": None, "coverage": None, "regressed": False, "reason": reason}


def _seconds(entry: Document) -> list[float]:
    return [statistics.median(one["runs"]) for one in entry["repetitions"]]


def _differences(new: Document, old: Document) -> Iterator[str]:
    """The facts that make the comparison invalid, each with both values."""
    for key in MACHINE:
        yield from _difference(key, old["environment"].get(key), new["environment"].get(key))
    for key in ("threads", "cpus"):
        yield from _difference(key, old["machine"][key], new["machine"][key])
    for key, by in (("copy", "bytes"), ("matmul", "dtype")):
        yield from _drift(key, by, old["machine"][key], new["machine"][key])
    before = _facts(old)
    for name, facts in _facts(new).items():
        for key in sorted(facts.keys() | before.get(name, facts).keys()):
            if name in before:
                yield from _difference(f"{name}'s {key}", before[name].get(key), facts.get(key))


def _drift(kind: str, by: str, old: Sequence[Document], new: Sequence[Document]) -> Iterator[str]:
    """The rates at which the machine itself differs."""
    rates = {one[by]: one["rate"] for one in old}
    for one in new:
        if one[by] in rates and not 1 / DRIFT <= one["rate"] / rates[one[by]] <= DRIFT:
            yield f"{kind} rate, {one[by]}: {units.count(rates[one[by]])} then, {units.count(one['rate'])} now"


def _difference(what: str, old: object, new: object) -> Iterator[str]:
    if old != new:
        yield f"{what}: {_word(old)} then, {_word(new)} now"


def _word(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _facts(document: Document) -> dict[str, Mapping[str, Any]]:
    """The environment that each backend reports."""
    return {one["backend"]: one["environment"] for one in document["entries"] if one["environment"]}
