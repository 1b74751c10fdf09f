"""A benchmark as one JSON document, according to the published schema ``bench.schema.json``."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from lockstep.backends.problem import Problem
from lockstep.harness.benchmark.growth import fitted
from lockstep.harness.benchmark.interval import LEVEL
from lockstep.harness.benchmark.limits import Limits
from lockstep.harness.benchmark.result import Benchmark, Timed

SCHEMA_VERSION = 1

Document = dict[str, Any]


def to_document(result: Benchmark, environment: Mapping[str, Any], command: str = "") -> Document:
    """The result as JSON values.

    Args:
        result: what was measured.
        environment: where (`lockstep.harness.environment.manifest`).
        command: the shell command that measures it again.
    """
    entries = [_entry(one, result) for one in result.timed]
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "interrupted": result.interrupted,
        "agrees": result.agrees,
        "asked": {
            "width": result.effort.width,
            "level": LEVEL,
            "time_limit": result.effort.limit,
            "repetitions": result.effort.most,
        },
        "environment": dict(environment),
        "machine": {
            "threads": result.pinned.threads,
            "cpus": list(result.pinned.cpus),
            "variables": result.pinned.variables,
            "load": result.load,
            "copy": [{"bytes": size, "rate": rate} for size, rate in result.limits.copy.items()],
            "matmul": [{"dtype": dtype, "rate": rate} for dtype, rate in result.limits.matmul.items()],
        },
        "entries": entries,
        "growth": [*_growth(entries)],
        "against": None,
    }


def dumps(document: Document) -> str:
    """The document as strict JSON text."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(one: Timed, result: Benchmark) -> Document:
    problem = one.sized.problem
    return {
        "problem": problem.name,
        "sha256": fingerprint(problem),
        "dtype": problem.dtype,
        "backend": one.backend,
        "size": one.sized.size,
        "sweep": one.sized.axis,
        "need": {**asdict(one.need), "seconds": one.need.seconds(result.limits, problem.dtype)},
        "verdict": one.verdict,
        "reason": one.reason,
        "verified": {
            "epochs": one.proof.epochs,
            "losses": one.proof.losses,
            "parameters": one.proof.parameters,
        },
        "environment": dict(one.samples[0].environment) if one.samples else {},
        "figures": _figures(one, result.limits, result.effort.width),
        "repetitions": [_repetition(sample) for sample in one.samples],
    }


def fingerprint(problem: Problem) -> str:
    """A hash that identifies a problem: its data, its initial parameters, all its components."""
    digest = hashlib.sha256()
    for array in (problem.x, problem.y, *problem.initial.values()):
        digest.update(array.data if array.flags.c_contiguous else array.tobytes())
    parts = (
        problem.model,
        problem.parts,
        problem.epochs,
        problem.dtype,
        problem.batching,
        problem.accumulation,
    )
    digest.update(repr(parts).encode())
    return digest.hexdigest()


def _repetition(sample: Any) -> Document:
    fields = asdict(sample)
    del fields["environment"]
    return {**fields, "runs": list(sample.runs)}


def _figures(one: Timed, limits: Limits, width: float | None) -> Document | None:
    """The figures of the tables; None where no time may be shown."""
    summary, problem = one.summary, one.sized.problem
    if summary is None:
        return None
    least = None if _is_elsewhere(one) else one.need.seconds(limits, problem.dtype)
    device = [sample.device_bytes for sample in one.samples if sample.device_bytes is not None]
    return {
        "median": summary.median,
        "quartiles": [summary.low_quartile, summary.high_quartile],
        "interval": [summary.low, summary.high],
        "coverage": summary.coverage,
        "width": summary.width,
        "precise": None if width is None else summary.within(width),
        **{
            key: statistics.median(getattr(sample, key) for sample in one.samples)
            for key in ("result", "started", "imported", "built", "compiled")
        },
        "per_epoch": summary.median / problem.epochs,
        "examples_per_second": one.sized.size["rows"] * problem.epochs / summary.median,
        "peak_bytes": max(sample.peak_bytes for sample in one.samples),
        "risen_bytes": max(sample.peak_bytes - sample.before_bytes for sample in one.samples),
        "device_bytes": max(device, default=None),
        "of_limit": None if not least else summary.median / least,
        "reproduced": len({sample.losses for sample in one.samples}) == 1,
    }


def _is_elsewhere(one: Timed) -> bool:
    """Whether it trains on a device whose limits were not measured."""
    return any(str(sample.environment.get("device", "cpu")) != "cpu" for sample in one.samples)


def _growth(entries: Iterable[Document]) -> Iterable[Document]:
    """The exponents of every sweep of every backend."""
    sweeps: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for one in entries:
        if one["sweep"] and one["figures"]:
            key = one["problem"], one["dtype"], one["backend"], one["sweep"]
            sweeps.setdefault(key, []).append((one["size"][one["sweep"]], one["figures"]["median"]))
    for (problem, dtype, backend, axis), points in sweeps.items():
        if growth := fitted(points):
            yield {
                "problem": problem,
                "dtype": dtype,
                "backend": backend,
                "axis": axis,
                "points": [list(point) for point in points],
                **asdict(growth),
            }
