"""A result as one JSON document, according to the published schema ``report.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Errors
from lockstep.harness.core.compare import Comparison, Run
from lockstep.harness.core.distance import Place
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.documents.numbers import (
    number,
)
from lockstep.harness.numerics.certified import Certified
from lockstep.harness.report import diagnosis
from lockstep.harness.report.alarm import (
    stored,
)
from lockstep.harness.verification.result import Case, Result

SCHEMA_VERSION = 2

Document = dict[str, Any]


def to_document(
    result: Result, environment: Mapping[str, Any], command: str = "", recorded: Document | None = None
) -> Document:
    """The result as JSON values; NaN and infinities become the strings that `number` gives.

    Args:
        result: the result.
        environment: where (`lockstep.harness.environment.manifest`).
        command: the shell command that produces the same result.
        recorded: for a replay, the source of the left side: the bundle's name, its environment, and what changed since.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": result.verdict,
        "command": command,
        "environment": {
            **environment,
            "backends": {run.backend: dict(run.environment) for run in result.runs if run.environment},
        },
        "cases": [_case(case) for case in result.cases],
        "runs": [_run(run, case.certified) for case in result.cases for run in case.runs],
        "alarm": stored(),
        "recorded": recorded,
        "comparisons": [_comparison(one) for one in result.comparisons],
    }


def dumps(document: Document) -> str:
    """The document as strict JSON text; half a surrogate pair, which UTF-8 has not, as its escape."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


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
        "limits": _numbers(case.limits.tolist()),
        "certified": case.certified and _certified(case.certified),
        "diagnoses": [diagnosis.to_document(one) for one in case.diagnoses],
        "left_out": [
            {"backend": one.backend, "kind": one.kind, "names": list(one.names)} for one in case.left_out
        ],
    }


def _certified(one: Certified) -> Document:
    return {"bits": one.bits, "seconds": one.seconds, "reason": one.reason}


def _tolerance(one: Judge) -> Document:
    return {"rtol": one.rtol, "atol": one.atol, "scaled": one.scaled, "kind": one.kind, "source": one.source}


def _run(run: Run, certified: Certified | None) -> Document:
    trace, errors = run.trace, certified and certified.errors.get(run.backend)
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
        "errors": errors and _errors(errors),
        "seconds": run.seconds,
        "given": {name: asdict(one) for name, one in run.given.items()},
    }


def _errors(errors: Errors) -> Document:
    """In ULPs, to three digits."""
    return {
        "losses": _rough(errors.losses),
        "parameters": {name: _rough(value) for name, value in errors.parameters.items()},
    }


def _rough(values: Array) -> Any:
    flat = [float(f"{one:.3g}") for one in values.ravel()]
    return _numbers(np.reshape(flat, values.shape).tolist())


def _decimals(array: np.ndarray[Any, Any]) -> Any:
    """An array as nested lists of the shortest decimals that give its numbers back in its own dtype."""
    return _numbers(np.array(array.astype(str), dtype=np.float64).tolist())


def _comparison(one: Comparison) -> Document:
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
        "differing": one.differing,
        "lost": one.lost,
        "places": [_place(place) for place in one.places],
        "smallest_rtol": number(one.smallest_rtol),
        "smallest_atol": number(one.smallest_atol),
        "tolerance": one.tolerance and _tolerance(one.tolerance),
        "used": number(one.used),
        "detectable": number(one.detectable),
    }


def _place(one: Place) -> Document:
    return {key: number(value) if isinstance(value, float) else value for key, value in asdict(one).items()}
