"""What checking a backend found as one JSON document, according to the published schema ``conformance.schema.json``."""

from __future__ import annotations

from typing import Any

from lockstep.harness.conformance.outcome import Outcome, Report

SCHEMA_VERSION = 1


def to_document(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "backend": report.backend,
        "verdict": str(report.verdict),
        "capabilities": list(report.capabilities),
        "trained": list(report.trained),
        "refused": [{"problem": where, "reason": reason} for where, reason in report.refused],
        "checks": [_check(one) for one in report.outcomes],
    }


def _check(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.check.name,
        "reason": outcome.check.reason,
        "verdict": str(outcome.verdict),
        "skipped": outcome.skipped,
        "checked": list(outcome.checked),
        "failures": [
            {"problem": where, "what": error.what, "got": error.got, "fix": error.fix}
            for where, error in outcome.failures
        ],
    }
