"""The changes between two reports: verdicts, distances, first divergences, the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.report import (
    attribution,
)
from lockstep.harness.report.markdown import table

SEVERITY = tuple(Verdict)
"""From the worst to agreement."""

MEASURED = ("device_peak_bytes",)
"""What a backend reports about its run next to its environment: a different figure each time."""

Document = dict[str, Any]
Key = tuple[str, str]
Section = tuple[str, tuple[str, ...], list[list[str]]]


def changes(old: Document, new: Document) -> Document:
    """The cases in only one of them, and what changed: verdicts, first divergences, worst distances, the environment."""
    before, after = ({_key(case): case for case in one["cases"]} for one in (old, new))
    common = [key for key in after if key in before]
    return {
        "gone": [key for key in before if key not in after],
        "added": [key for key in after if key not in before],
        "verdicts": [
            (key, before[key]["verdict"], after[key]["verdict"])
            for key in common
            if before[key]["verdict"] != after[key]["verdict"]
        ],
        "divergences": [
            (key, _sentence(before[key]), _sentence(after[key]))
            for key in common
            if _sentence(before[key]) != _sentence(after[key])
        ],
        "distances": [
            (key, _used(old, before[key]), _used(new, after[key]))
            for key in common
            if _used(old, before[key]) != _used(new, after[key])
        ],
        "environment": list(_environment(old["environment"], new["environment"])),
    }


def got_worse(document: Document) -> bool:
    """Whether a case's verdict is more severe than it was, or a case is gone."""
    severer = any(SEVERITY.index(after) < SEVERITY.index(before) for _, before, after in document["verdicts"])
    return severer or bool(document["gone"])


def headline(document: Document) -> str:
    """The answer in one line."""
    if not any(document.values()):
        return "Nothing moved"
    return "Worse than before" if got_worse(document) else "Not worse than before"


def sections(document: Document) -> Iterator[Section]:
    """Each kind of change as a table: its title, the titles of its columns, its rows of words; none that is empty."""
    columns = ("problem", "dtype", "before", "after")
    tables: list[Section] = [
        ("Not in the new report", ("problem", "dtype"), [list(one) for one in document["gone"]]),
        ("New", ("problem", "dtype"), [list(one) for one in document["added"]]),
        ("Verdict", columns, [[*case, str(old), str(new)] for case, old, new in document["verdicts"]]),
        (
            "First divergence",
            columns,
            [[*case, old or "none", new or "none"] for case, old, new in document["divergences"]],
        ),
        (
            "Largest distance, as a share of its limit",
            columns,
            [[*case, figures.share(old), figures.share(new)] for case, old, new in document["distances"]],
        ),
        ("Environment", ("what", "before", "after"), [list(one) for one in document["environment"]]),
    ]
    yield from (one for one in tables if one[2])


def render(document: Document) -> str:
    """The changes as Markdown."""
    lines = [f"# {headline(document)}", ""]
    for title, columns, rows in sections(document):
        lines += [f"## {title}", "", *table(columns, rows)]
    return "\n".join(lines).rstrip() + "\n"


def _key(case: Document) -> Key:
    return case["problem"], case["dtype"]


def _sentence(case: Document) -> str:
    return "; ".join(one["sentence"] for one in case["diagnoses"])


def _used(document: Document, case: Document) -> float | str | None:
    """The largest share of a limit that was used; a word where it is not finite, None where nothing was compared."""
    used = [
        one["used"] for one in attribution.of_case(document["comparisons"], case) if one["used"] is not None
    ]
    words = [one for one in used if isinstance(one, str)]
    return words[0] if words else max(used, default=None)


def since(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What differs here from a recorded environment; facts that were not recorded are not compared."""
    return list(_environment(dict(recorded), {key: value for key, value in here.items() if key in recorded}))


def _environment(old: Document, new: Document, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _environment(before, after, f"{prefix}{key}: ")
        elif before != after and key not in MEASURED:
            yield f"{prefix}{key}", str(before), str(after)
