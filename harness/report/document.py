"""A result as one JSON document, according to the published schema ``report.schema.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.compare import Comparison, Run
from harness.parity import Case, Result
from harness.tolerance import Judge

SCHEMA_VERSION = 1

Document = dict[str, Any]


def to_document(result: Result, environment: Mapping[str, Any]) -> Document:
    """Everything found, as JSON values; NaN and infinities become the strings that `number` gives."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": result.verdict,
        "environment": {
            **environment,
            "backends": {run.backend: dict(run.environment) for run in result.runs if run.environment},
        },
        "cases": [_case(case) for case in result.cases],
        "runs": [_run(run) for run in result.runs],
        "comparisons": [_comparison(one) for one in result.comparisons],
    }


def dumps(document: Document) -> str:
    """The document as strict JSON text."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def number(value: float | None) -> float | str | None:
    """A float as JSON can hold it."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(values: Any) -> Any:
    """Nested lists of floats as JSON can hold them."""
    return [_numbers(one) for one in values] if isinstance(values, list) else number(values)


def _case(case: Case) -> Document:
    return {
        "problem": case.problem.name,
        "dtype": case.problem.dtype,
        "verdict": case.verdict,
        "reason": case.reason,
        "epochs": case.problem.epochs,
        "steps": case.problem.steps,
        "tolerance": _tolerance(case.tolerance),
        "distances": _numbers(case.distances.tolist()),
    }


def _tolerance(one: Judge) -> Document:
    return {"rtol": one.rtol, "atol": one.atol, "scaled": one.scaled, "source": one.source}


def _run(run: Run) -> Document:
    trace = run.trace
    return {
        "problem": run.problem,
        "dtype": run.dtype,
        "backend": run.backend,
        "verdict": run.verdict,
        "reason": run.reason,
        "fix": run.fix,
        "losses": [] if trace is None else _decimals(trace.losses),
        "parameters": {}
        if trace is None
        else {name: _decimals(value) for name, value in trace.final.parameters.items()},
        "seconds": run.seconds,
        "given": {name: asdict(one) for name, one in run.given.items()},
    }


def _decimals(array: np.ndarray[Any, Any]) -> Any:
    """An array as nested lists of the shortest decimals that give its numbers back in its own dtype."""
    return _numbers(np.array(array.astype(str), dtype=np.float64).tolist())


def _comparison(one: Comparison) -> Document:
    worst = one.worst and {
        key: number(value) if isinstance(value, float) else value for key, value in asdict(one.worst).items()
    }
    return {
        "problem": one.problem,
        "dtype": one.dtype,
        "left": one.left,
        "right": one.right,
        "quantity": one.quantity,
        "unit": one.unit,
        "verdict": one.verdict,
        "reason": one.reason,
        "elements": one.elements,
        "failing": one.failing,
        "first_failing": one.first_failing,
        "worst": worst,
        "smallest_rtol": number(one.smallest_rtol),
        "smallest_atol": number(one.smallest_atol),
        "tolerance": one.tolerance and _tolerance(one.tolerance),
        "used": number(one.used),
        "detectable": number(one.detectable),
    }
