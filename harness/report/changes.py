"""What moved between two reports: verdicts, distances, first divergences, the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report import attribution, figures
from harness.report.markdown import cell, table
from harness.verdict import Verdict

SEVERITY = tuple(Verdict)
"""From the worst to agreement."""

Document = dict[str, Any]
Key = tuple[str, str]


def changes(old: Document, new: Document) -> Document:
    """What is in one and not in the other, what got worse or better, whose worst distance moved, and what is installed now."""
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


def got_worse(told: Document) -> bool:
    """Whether a verdict is more severe than it was."""
    return any(SEVERITY.index(after) < SEVERITY.index(before) for _, before, after in told["verdicts"])


def render(told: Document) -> str:
    """The changes as Markdown."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Document) -> Iterator[str]:
    worse = got_worse(told)
    yield f"# {'Worse than before' if worse else 'Not worse than before'}"
    yield ""
    for words, key in (("Not in the new report", "gone"), ("New", "added")):
        if told[key]:
            yield cell(f"{words}: {', '.join(' '.join(one) for one in told[key])}.")
            yield ""
    for title, key in (("Verdict", "verdicts"), ("First divergence", "divergences")):
        if told[key]:
            yield f"## {title}"
            yield ""
            yield from table(
                ("problem", "dtype", "before", "after"),
                ([*case, before or "none", after or "none"] for case, before, after in told[key]),
            )
    if told["distances"]:
        yield "## Largest distance, as a share of its limit"
        yield ""
        yield from table(
            ("problem", "dtype", "before", "after"),
            (
                [*case, figures.share(before), figures.share(after)]
                for case, before, after in told["distances"]
            ),
        )
    if told["environment"]:
        yield "## Environment"
        yield ""
        yield from table(("what", "before", "after"), told["environment"])


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
    """What of a recorded environment is otherwise here; of what was not recorded nothing is known."""
    return list(_environment(dict(recorded), {key: value for key, value in here.items() if key in recorded}))


def _environment(old: Document, new: Document, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _environment(before, after, f"{prefix}{key}: ")
        elif before != after:
            yield f"{prefix}{key}", str(before), str(after)
