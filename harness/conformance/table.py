"""What checking a backend found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lockstep.harness.conformance.check import Check
from lockstep.harness.conformance.outcome import Outcome, Report
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents.figures import (
    printable,
)


def rules(checks: Iterable[Check]) -> RenderableType:
    """The checks, why each is made, and what a backend must have for it."""
    table = Table(title="checks", title_justify="left")
    for head in ("check", "why", "needs"):
        table.add_column(head)
    for one in checks:
        table.add_row(one.name, one.reason, ", ".join(sorted(one.needs)))
    return table


def render(report: Report) -> RenderableType:
    """A line for each check, every broken rule in full, what is not trained, the verdict."""
    table = Table(title=printable(report.backend) or "(no name)", title_justify="left")
    for head in ("check", "verdict", "on", ""):
        table.add_column(head)
    for one in report.outcomes:
        table.add_row(one.check.name, str(one.verdict), _on(one), one.skipped)
    refused = [Text(f"not trained: {where}: {printable(reason)}") for where, reason in report.refused]
    return Group(table, *map(Text, _broken(report)), *refused, Text(_verdict(report)))


def _on(outcome: Outcome) -> str:
    """On how many problems, or on how many of them the rule is broken."""
    made, broken = len(outcome.checked), len(outcome.failures)
    return f"{broken} of {made}" if broken else str(made or "")


def _broken(report: Report) -> Iterator[str]:
    """The first failure of each broken rule, and where else it is broken."""
    for one in report.outcomes:
        if one.failures:
            (_, error), *others = one.failures
            yield f"\n{one.check.name}: {one.check.reason}"
            yield f"  {printable_lines(error)}"
            if others:
                yield f"  also on: {', '.join(where for where, _ in others)}"


def printable_lines(error: Exception) -> str:
    """An error's lines, indented, without control characters."""
    return "\n  ".join(printable(line) for line in str(error).splitlines())


def _verdict(report: Report) -> str:
    made = [one for one in report.outcomes if one.verdict is not Verdict.SKIPPED]
    skipped = len(report.outcomes) - len(made)
    kept = sum(one.verdict is Verdict.AGREE for one in made)
    summary = f"{kept} of {len(made)} rules kept, on {len(report.trained)} problems"
    return f"\n{report.verdict}: {summary}" + (f"; {skipped} not checked" if skipped else "")
