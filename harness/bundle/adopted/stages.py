"""The stages of recorded steps of a user's own code: kept where it was recorded, and computed again where it is replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from lockstep.backends.adoption import leaves
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, Trainer
from lockstep.harness.adopt.measured import UPDATE
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side
from lockstep.harness.bundle import Recorded
from lockstep.harness.bundle.adopted.renamed import Renamed
from lockstep.harness.bundle.content import under
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.tolerance import Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.modules import modules_of
from lockstep.harness.numerics.budget import MULTIPLE
from lockstep.harness.numerics.limits import fixed_limits, gradients
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.stages import OPTIMISED, snapshot_of, stages_of

KEPT = frozenset({"state", "forward", "loss", "gradient", "buffers", "update"})
"""Kinds of stage of adopted code; the batch is known by its hash."""

BATCH = "batch"


def kept_stages(
    trainer: Trainer, snapshot: Snapshot, batch: Batch, injected: Arrays | None = None
) -> dict[str, Array]:
    """One step from `snapshot`; see `lockstep.harness.runs.stages.stages_of`."""
    with np.errstate(all="ignore"):  # what diverges is recorded as it is
        found = stages_of(trainer, snapshot, batch, injected)
    found["loss"] = found["loss"].reshape(())
    return {name: value for name, value in found.items() if name.partition("/")[0] in KEPT}


def hashes_of(task: Task) -> Array:
    """The SHA-256 of each step's batch, (steps, 32) bytes; a batch that comes again is read once."""
    known: dict[int, bytes] = {}
    for batch in task.data:
        if id(batch) not in known:
            known[id(batch)] = _hash_of(batch)
    joined = b"".join(known[id(batch)] for batch in task.data)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


def _hash_of(batch: Batch) -> bytes:
    """Of names, shapes, dtypes and numbers of every array in x and y."""
    digest = hashlib.sha256()
    for part, tree in (("x", batch.x), ("y", batch.y)):
        for name, array in leaves(tree, part).items():
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def restaged(
    task: Task,
    side: Side,
    recorded: Recorded,
    hashes: tuple[Array, Array],
    here: Mapping[int, Snapshot],
    given: Tolerance | None,
) -> Ledger:
    """Every recorded stage (left) against the same stage computed here (right); nothing where none was recorded.

    Args:
        task: what is trained here.
        side: who computes here.
        recorded: the run.
        hashes: those of the batches, recorded and here.
        here: the state before each recorded step of the run here: it shows what the optimizer keeps.
        given: a tolerance instead of limits from disturbed steps.
    """
    rows: list[Row] = []
    for step, ours in sorted(recorded.stages.items()):
        told = snapshot_of(under("state/", ours))
        whole = _forms(told.optimizer) == _forms(here[step].optimizer)
        trainer = Renamed(side, tuple(told.parameters), whole)
        digests = [{BATCH: one[step]} for one in hashes]
        try:
            theirs = kept_stages(trainer, told, task.data[step], gradients(ours))
            passes = _limits(task.dtype, fixed_limits(task, trainer)(told, task.data[step]), ours, given)
        except Exception as error:  # what the user's code makes of a state that may be damaged is a finding
            rows.append(Row(step, "step", Verdict.ERROR, describe(error)))
            continue
        left, right = _comparable(side, ours, theirs)
        rows += compare_stages(step, digests[0] | left, digests[1] | right, passes, _beyond(whole, step))
    return Ledger(tuple(rows))


def _forms(arrays: Arrays) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (value.shape, str(value.dtype)) for name, value in arrays.items()}


def _comparable(side: Side, ours: Arrays, theirs: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
    """What both have, in the order of computation: an archive is in the order of its names."""
    paired = dict(_paired(side, ours, theirs))
    both = [name for name in theirs if name in ours and not name.startswith("forward/")]
    first = [name for name in both if name.startswith("state/")]
    order = [*first, *paired, *(name for name in both if name not in first)]
    pairs = {name: paired.get(name) or (ours[name], theirs[name]) for name in order}
    left, right = ({name: pair[index] for name, pair in pairs.items()} for index in (0, 1))
    return left, right


def _paired(side: Side, ours: Arrays, theirs: Arrays) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """The outputs of modules, in the order in which they are computed here: by name, or where names are mapped by what they own."""
    forward = [
        {name: value for name, value in stages.items() if name.startswith("forward/")}
        for stages in (ours, theirs)
    ]
    if side.mapping is None:
        yield from ((name, (forward[0][name], value)) for name, value in forward[1].items() if name in ours)
        return
    pairs = modules_of(side.mapping, under("state/parameters/", ours)).paired(*forward)
    places = {id(value): index for index, value in enumerate(forward[1].values())}
    yield from sorted(pairs.items(), key=lambda item: places.get(id(item[1][1]), len(places)))


def _beyond(whole: bool, step: int) -> dict[str, str]:
    """Kinds of stage that say nothing here, with the reason."""
    if whole or not step:
        return {}
    return dict.fromkeys(OPTIMISED, "the recorded optimizer's state has another form than that here")


def _limits(
    dtype: str, found: Mapping[str, float], ours: Arrays, given: Tolerance | None
) -> dict[str, float]:
    """Those of disturbed steps, or the user's tolerance of each stage's largest magnitude."""
    scales = {name: float(np.abs(value.astype(np.float64)).max(initial=0.0)) for name, value in ours.items()}
    if given is not None and given.kind != "fixed":
        return {name: given.atol + given.rtol * scale for name, scale in scales.items()}
    # The size of an update comes from hyperparameters, which are rounded, too.
    room = MULTIPLE * UPDATE * float(np.finfo(dtype).eps)
    updates = {name: room * scale for name, scale in scales.items() if name.startswith("update/")}
    return {name: max(limit, updates.get(name, 0.0)) for name, limit in found.items()}
