"""How many bytes a bundle will take, before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Batch, Problem
from lockstep.backends.protocol import Snapshot, Trainer
from lockstep.harness.adopt.side import held
from lockstep.harness.adopt.task import Task
from lockstep.harness.bundle.archive import MOST_MEMBERS, BundleError
from lockstep.harness.runs.recorder import RecordedSteps
from lockstep.harness.runs.stages import stages_of


def size_of(text: str) -> int:
    """Bytes: ``64MB``, ``1.5 GB``, ``500kB`` or a number of them.

    Raises:
        LockstepError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|B|kB|KB|MB|GB)", text.strip())
    if match is None:
        raise LockstepError("it is not a size", repr(text), "give one as 64MB")
    return int(float(match[1]) * {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}[match[2]])


def check_size(
    chosen: Iterable[Problem],
    cases: Iterable[Problem],
    steps: Mapping[str, RecordedSteps],
    backends: int,
    data: bool,
    max_size: int,
) -> None:
    """Whether a bundle of these problems and runs can be as small as was asked for; nothing was trained yet.

    Args:
        chosen: what is trained.
        cases: the same in each dtype.
        steps: by name of the problem, at which steps more than the losses is recorded.
        backends: how many train each case.
        data: whether data and initial parameters are recorded.
        max_size: bytes.

    Raises:
        BundleError: the numbers alone would be larger.
    """
    given = sum(8 * (one.x.size + one.y.size + parameters_in(one)) for one in chosen) if data else 0
    size = given + backends * sum(numbers_in(one, steps[one.name]) for one in cases)
    _refuse_larger(size, max_size, f", {given:,} of them data", "data")


def check_size_of_code(
    trainer: Trainer, task: Task, steps: RecordedSteps, kinds: Collection[str], data: bool, max_size: int
) -> None:
    """The same of a user's own code; where stages are recorded, two single steps show their size.

    Args:
        trainer: the code.
        task: what it is trained on.
        steps: at which steps more than the losses is recorded.
        kinds: which kinds of stage.
        data: whether the parameters and buffers at the start are recorded.
        max_size: bytes.

    Raises:
        BundleError: it would be larger, or of more arrays than a bundle can hold.
    """
    start = trainer.read(trainer.init())
    stages = _first_stages(trainer, start, task.data[0], kinds) if steps.stages else []
    size = task.steps * (32 + np.dtype(task.dtype).itemsize)
    size += (1 + data) * _bytes(held(start).values()) + len(steps.stages) * _bytes(stages)
    size += len(steps.parameters) * _bytes(start.parameters.values())
    arrays = (1 + data) * len(held(start)) + len(steps.stages) * len(stages)
    arrays += len(steps.parameters) * len(start.parameters)
    _refuse_larger(size, max_size, "", "start")
    if arrays + 9 > MOST_MEMBERS:
        raise BundleError("too many arrays", f"{arrays:,} of {MOST_MEMBERS:,}", "record fewer steps")


def _refuse_larger(size: int, max_size: int, of_them: str, what: str) -> None:
    if size > max_size:
        raise BundleError(
            "the bundle would be larger than was allowed",
            f"about {size:,} of {max_size:,} bytes{of_them}",
            f"record fewer steps, leave the {what} out (--without-data), or allow more with --max-size",
        )


def _first_stages(trainer: Trainer, start: Snapshot, batch: Batch, kinds: Collection[str]) -> list[Array]:
    """Those of the first step, and what the optimizer keeps after it."""
    stages = stages_of(trainer, start, batch)
    state, _ = trainer.step(trainer.write(trainer.init(), start), batch)
    recorded = [value for name, value in stages.items() if name.partition("/")[0] in kinds]
    return [*recorded, *trainer.read(state).optimizer.values()]


def _bytes(arrays: Iterable[Array]) -> int:
    return sum(one.nbytes for one in arrays)


def numbers_in(problem: Problem, steps: RecordedSteps) -> int:
    """About how many bytes the numbers of one recorded run take.

    A step whose stages are recorded holds the state before and after it twice, the gradients, the updates in float64, and every
    layer's output and its cotangent.
    """
    item = np.dtype(problem.dtype).itemsize
    leaves = parameters_in(problem)
    state = leaves + sum(one.size for one in problem.optimizer.initial_state(problem.initial).values())
    rows = problem.batching.size or len(problem.x)
    outputs = rows * sum(math.prod(layer.output_shape) for layer in problem.layers)
    stage = 3 * state + 2 * leaves + 2 * outputs + leaves * 8 // item
    return item * (problem.steps + state + len(steps.parameters) * leaves + len(steps.stages) * stage)


def parameters_in(problem: Problem) -> int:
    """How many numbers are trained."""
    return sum(math.prod(shape) for shape in problem.parameter_shapes.values())
