"""What a bundle says of the training of a user's own code: everything is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.harness.bundle.archive import BundleError
from lockstep.harness.bundle.arrays import nothing_left, take, taken
from lockstep.harness.bundle.content import Recorded, RecordedTask
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.runs.stages import snapshot_of


def task_of(entry: Mapping[str, Any], arrays: dict[str, Array]) -> RecordedTask:
    """The task, of which the document has this entry; no array is left then."""
    document = entry["task"]
    batches = taken(arrays, "batches")
    if batches.shape != (document["steps"], 32):
        raise BundleError(
            "the hashes are not those of the batches",
            f"shape {shortened(batches.shape)}",
            f"it has {shortened(document['steps'])} steps, and 32 bytes for each",
        )
    start = snapshot_of(take(arrays, "start/")) if entry["data"] else None
    nothing_left(arrays)
    return RecordedTask(document["name"], document["dtype"], batches, start, document["generator"])


def check_run(task: RecordedTask, one: Recorded) -> None:
    """What it began with, what it ended with and what was recorded on the way are of the same names, shapes and numbers."""
    assert one.run.trace is not None
    ends = one.run.trace.final
    others = [] if task.start is None else [task.start]
    others += [Snapshot(some, buffers=ends.buffers) for some in one.parameters.values()]
    for other in others:
        if _forms(other) != _forms(ends):
            raise BundleError(
                "not all its parameters are there at all steps, or not in one shape",
                shortened(sorted(_forms(other).keys() ^ _forms(ends).keys()) or "other shapes"),
                "record it again",
            )
    if odd := {one.run.dtype, *(str(value.dtype) for value in ends.parameters.values())} - {task.dtype}:
        raise BundleError(
            "its run has another dtype than its task", ", ".join(sorted(odd)), "record it again"
        )


def _forms(state: Snapshot) -> dict[str, tuple[tuple[int, ...], str]]:
    """Of parameters and buffers."""
    kinds = {"parameters": state.parameters, "buffers": state.buffers}
    return {
        f"{kind}/{name}": (value.shape, str(value.dtype))
        for kind, arrays in kinds.items()
        for name, value in arrays.items()
    }
