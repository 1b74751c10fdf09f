"""Hashes of the batches of a run: a replay must see the same ones, and a user's own are not in the bundle."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from lockstep.backends.adoption import leaves
from lockstep.backends.problem import Array, Arrays, Batch, Problem
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.compare import Fingerprint

BATCHES = "batches"
"""Among the fingerprints of a run's inputs: that of every batch, in order."""


def fingerprint_of(problem: Problem) -> Fingerprint:
    """Of all batches of a problem: of one epoch where every epoch is the same."""
    batches = problem.batches()
    if problem.batching.shuffle is None and not batches.dropped:
        batches = dataclasses.replace(batches, epochs=1)
    digest = hashlib.sha256()
    for batch in batches:
        _add(digest, batch.stages())
    return Fingerprint((problem.steps,), problem.dtype, digest.hexdigest())


def fingerprint_of_hashes(hashes: Array, dtype: str) -> Fingerprint:
    """Of all batches whose `hashes_of` these are."""
    return Fingerprint((len(hashes),), dtype, hashlib.sha256(hashes.tobytes()).hexdigest())


def hashes_of(task: Task) -> Array:
    """The SHA-256 of each step's batch, (steps, 32) bytes; a batch that comes again is read once."""
    known: dict[int, bytes] = {}
    for batch in task.data:
        if id(batch) not in known:
            known[id(batch)] = hash_of(batch).tobytes()
    joined = b"".join(known[id(batch)] for batch in task.data)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


def hash_of(batch: Batch) -> Array:
    """The SHA-256 of names, shapes, dtypes and numbers of every array in x and y, (32,) bytes."""
    digest = hashlib.sha256()
    for part, tree in (("x", batch.x), ("y", batch.y)):
        _add(digest, leaves(tree, part))
    return np.frombuffer(digest.digest(), np.uint8)


def _add(digest: hashlib._Hash, arrays: Arrays) -> None:
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
