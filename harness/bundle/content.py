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

FORMAT = "lockstep bundle"
SCHEMA_VERSION = 1
DOCUMENT = "bundle.json"
"""The member that says what the arrays are."""


@dataclass(frozen=True)
class Kept:
    """What a bundle says of a problem.

    Attributes:
        document: all but data, initial parameters and dtype (`lockstep.harness.problems.document.describe`).
        problem: the problem, in float64; None where data and initial parameters were left out.
    """

    document: Mapping[str, Any]
    problem: Problem | None


@dataclass(frozen=True)
class KeptTask:
    """What a bundle says of the training of a user's own code, of which it holds neither the code nor the batches.

    Attributes:
        name: what reports call it.
        dtype: of the parameters.
        batches: the SHA-256 of each step's batch, (steps, 32) bytes.
        start: parameters and buffers before the first step; None where only their hashes were kept.
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

    def parted(self, batches: Array) -> int | None:
        """The first step whose batch has another hash; None where all are the same."""
        odd = np.flatnonzero((self.batches != batches).any(axis=1))
        return int(odd[0]) if odd.size else None


@dataclass(frozen=True)
class Moments:
    """When to keep more than the losses.

    Attributes:
        parameters: after how many steps, 0 for the initial ones.
        stages: of which steps, from 0.
    """

    parameters: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()

    @property
    def stepwise(self) -> bool:
        """Whether the run must be trained step by step."""
        return bool(self.parameters or self.stages)


@dataclass(frozen=True)
class Recorded:
    """What a bundle says of one run.

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
    problems: tuple[Kept, ...]
    runs: tuple[Recorded, ...]
    task: KeptTask | None = None


def quoted(name: str) -> str:
    """The name of an array as that of its member, but for the suffix."""
    return quote(name, safe="/~")


def under(prefix: str, arrays: Arrays) -> dict[str, Array]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
