"""From recorded runs to the bytes of a bundle."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from lockstep.backends.problem import Array
from lockstep.harness.bundle import archive, npy
from lockstep.harness.bundle.content import (
    DOCUMENT,
    FORMAT,
    SCHEMA_VERSION,
    Bundle,
    Recorded,
    RecordedTask,
    quoted,
)
from lockstep.harness.runs.stages import fields


def to_bytes(bundle: Bundle) -> bytes:
    """The file; the same bundle gives the same bytes.

    Raises:
        BundleError: it holds what a bundle cannot.
    """
    arrays = {quoted(name): array for name, array in _arrays(bundle).items()}
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "environment": bundle.environment,
        "problems": [
            *({"document": one.document, "data": one.problem is not None} for one in bundle.problems),
            *([] if bundle.task is None else [_task_document(bundle.task)]),
        ],
        "runs": [_run_document(one) for one in bundle.runs],
        npy.BFLOAT16: sorted(name for name, array in arrays.items() if array.dtype.name == npy.BFLOAT16),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    encoded = {f"{name}.npy": npy.encode(name, array) for name, array in sorted(arrays.items())}
    return archive.pack({DOCUMENT: text.encode(), **encoded})


def _arrays(bundle: Bundle) -> dict[str, Array]:
    """Every array under its name."""
    arrays: dict[str, Array] = {}
    for index, recorded in enumerate(bundle.problems):
        if recorded.problem is not None:
            at = f"problems/{index}"
            arrays |= {f"{at}/x": recorded.problem.x, f"{at}/y": recorded.problem.y}
            arrays |= {f"{at}/initial/{name}": value for name, value in recorded.problem.initial.items()}
    if bundle.task is not None:
        arrays |= {"task/batches": bundle.task.batches}
        start = bundle.task.start
        arrays |= {} if start is None else {f"task/start/{name}": one for name, one in fields(start).items()}
    for index, one in enumerate(bundle.runs):
        arrays |= {f"runs/{index}/{name}": value for name, value in _run_arrays(one).items()}
    return arrays


def _run_arrays(one: Recorded) -> dict[str, Array]:
    trace = one.run.trace
    assert trace is not None
    arrays = {"losses": trace.losses}
    arrays |= {f"final/{name}": value for name, value in fields(trace.final).items()}
    arrays |= {} if one.run.evaluation is None else {"evaluation": one.run.evaluation}
    for kind, steps in (("parameters", one.parameters), ("stages", one.stages)):
        arrays |= {
            f"{kind}/{step}/{name}": value
            for step, recorded in steps.items()
            for name, value in recorded.items()
        }
    return arrays


def _task_document(task: RecordedTask) -> dict[str, Any]:
    document = {"name": task.name, "dtype": task.dtype, "steps": task.steps, "generator": task.generator}
    return {"task": document, "data": task.start is not None}


def _run_document(one: Recorded) -> dict[str, Any]:
    return {
        "problem": one.problem,
        "dtype": one.run.dtype,
        "backend": one.run.backend,
        "stepwise": one.stepwise,
        "environment": dict(one.run.environment),
        "given": {name: dataclasses.asdict(one_) for name, one_ in one.run.given.items()},
        "parameters_at": sorted(one.parameters),
        "stages_at": sorted(one.stages),
    }
