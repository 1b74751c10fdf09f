"""The document as short Markdown: for the summary of a build, or a comment on a change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents.files import append_text
from lockstep.harness.report import attribution, left_out
from lockstep.harness.report.markdown import cell, table

COMMENT = 65_000
"""Characters that a comment may have: GitHub takes 65,536."""

STEP = 250_000
"""Characters that a step's summary may have: GitHub takes 1 MiB of UTF-8 of each step."""


def render(document: dict[str, Any], limit: int = COMMENT) -> str:
    """The verdict, the matrix of cases and backends, and why what does not agree does not; at most `limit` characters.

    What does not fit is left out from the end, whole lines at a time, and a last line says so.
    """
    lines = list(_lines(document))
    shown: list[str] = []
    size = 0
    available = limit - len(_cut(len(lines)))
    for line in lines:
        size += len(line) + 1
        if size > available:
            return "\n".join([*shown, _cut(len(lines) - len(shown))])
        shown.append(line)
    return "\n".join(shown) + "\n"


def append_to_step(document: dict[str, Any]) -> None:
    """Append the summary to the file that GITHUB_STEP_SUMMARY names; nothing where it names none.

    Raises:
        FileError: it cannot be written.
    """
    if target := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_text(Path(target), render(document, STEP))


def _cut(lines: int) -> str:
    return f"\n{lines} more lines are left out here; the report has them.\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield cell(f"## Lockstep: {document['verdict']}{left_out.of_cases(document['cases'])}")
    yield ""
    cases, comparisons = document["cases"], document["comparisons"]
    total = sum(one["elements"] for one in comparisons)
    yield f"{len(cases)} cases, {len(comparisons)} comparisons of {total} values."
    yield ""
    others = [case for case in cases if case["verdict"] != Verdict.AGREE]
    for case in others:
        yield cell(f"- {case['problem']} {case['dtype']}: {case['verdict']}: {case['reason']}")
        for diagnosis in case["diagnoses"]:
            yield cell(
                f"  - {diagnosis['backend']} against {diagnosis['reference']}: {diagnosis['sentence']}"
            )
    if others:
        yield ""
    backends = list(dict.fromkeys(run["backend"] for run in document["runs"]))
    yield from table(
        ("problem", "dtype", *backends, "verdict"), (_row(document, case, backends) for case in cases)
    )
    if document["command"]:
        yield f"Again: `{cell(document['command'])}`"


def _row(document: dict[str, Any], case: dict[str, Any], backends: list[str]) -> list[str]:
    own = attribution.verdicts(document, case)
    return [case["problem"], case["dtype"], *(own.get(name, "") for name in backends), case["verdict"]]
