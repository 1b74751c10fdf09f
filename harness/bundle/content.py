"""What a bundle holds, and what its arrays are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.core.compare import Run
from lockstep.harness.runs.stages import snapshot_of

FORMAT = "lockstep bundle"
SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
"""The member that says what the arrays are."""


@dataclass(frozen=True)
class RecordedProblem:
    """What a bundle says of a problem.

    Attributes:
        document: all but data, initial parameters and dtype (`lockstep.harness.problems.document.describe`).
        problem: the problem, in float64; None where data and initial parameters were left out.
    """

    document: Mapping[str, Any]
    problem: Problem | None


@dataclass(frozen=True)
class RecordedTask:
    """What a bundle says of the training of a user's own code, of which it holds neither the code nor the batches.

    Attributes:
        name: what reports call it.
        dtype: of the parameters.
        batches: the SHA-256 of each step's batch, (steps, 32) bytes.
        start: parameters and buffers before the first step; None where only their hashes were recorded.
        generator: whose random numbers its steps drew, and from which seed; empty where they drew none.
    """

    name: str
    dtype: str
    batches: Array
    start: Snapshot | None
    generator: str = ""

    @property
    def steps(self) -> int:
        """How many were trained."""
        return len(self.batches)

    def first_other(self, batches: Array) -> int | None:
        """The first step whose batch has another hash; None where all are the same."""
        odd = np.flatnonzero((self.batches != batches).any(axis=1))
        return int(odd[0]) if odd.size else None


@dataclass(frozen=True)
class Recorded:
    """What a bundle says of one run; in a lockstep run it is a reference that answers and computes nothing.

    Attributes:
        problem: which of the bundle's problems was trained; 0 where there is a task.
        run: as `verify` makes it; the fingerprints of what was given include ``batches``.
        stepwise: whether it was trained one step after the other, and not by the backend's own `fit`.
        parameters: how many steps -> every parameter after them.
        stages: step, from 0 -> its stages as `lockstep.harness.runs.stages.stages_of` gives them, but for the batch.
    """

    problem: int
    run: Run
    stepwise: bool = False
    parameters: Mapping[int, Arrays] = field(default_factory=dict)
    stages: Mapping[int, Arrays] = field(default_factory=dict)

    def snapshot_at(self, step: int) -> Snapshot:
        """The state before a recorded step."""
        return snapshot_of(under("state/", self.stages[step]))

    def stages_at(self, step: int) -> Arrays:
        """The stages of a recorded step."""
        return self.stages[step]


@dataclass(frozen=True)
class Bundle:
    """Recorded runs.

    Attributes:
        environment: where they were recorded: `lockstep.harness.environment.manifest`, and under ``backends`` what each says of itself.
        problems: what was trained.
        runs: what came of it.
        task: what was trained where that was a user's own code; then there are no problems, and one run.
    """

    environment: Mapping[str, Any]
    problems: tuple[RecordedProblem, ...]
    runs: tuple[Recorded, ...]
    task: RecordedTask | None = None


def quoted(name: str) -> str:
    """The name of an array as that of its member, but for the suffix."""
    return quote(name, safe="/~")


def under(prefix: str, arrays: Arrays) -> dict[str, Array]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
