"""How many bytes a bundle will take, before anything is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Problem
from lockstep.harness.bundle.archive import BundleError
from lockstep.harness.bundle.content import Moments


def size_of(text: str) -> int:
    """Bytes: ``64MB``, ``1.5 GB``, ``500kB`` or a number of them.

    Raises:
        LockstepError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(|B|kB|KB|MB|GB)", text.strip())
    if found is None:
        raise LockstepError("it is not a size", repr(text), "give one as 64MB")
    return int(float(found[1]) * {"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}[found[2]])


def check_size(
    chosen: Iterable[Problem],
    cases: Iterable[Problem],
    moments: Mapping[str, Moments],
    backends: int,
    data: bool,
    max_size: int,
) -> None:
    """Whether a bundle of these problems and runs can be as small as was asked for; nothing was trained yet.

    Args:
        chosen: what is trained.
        cases: the same in each dtype.
        moments: by name of the problem, when what is kept.
        backends: how many train each case.
        data: whether data and initial parameters are kept.
        max_size: bytes.

    Raises:
        BundleError: the numbers alone would be larger.
    """
    given = sum(8 * (one.x.size + one.y.size + parameters_in(one)) for one in chosen) if data else 0
    size = given + backends * sum(numbers_in(one, moments[one.name]) for one in cases)
    if size > max_size:
        raise BundleError(
            "the bundle would be larger than was allowed",
            f"about {size:,} of {max_size:,} bytes, {given:,} of them data",
            "record fewer moments, leave the data out (--without-data), or allow more with --max-size",
        )


def numbers_in(problem: Problem, moments: Moments) -> int:
    """About how many bytes the numbers of one recorded run take.

    A stage that was recorded holds the state before and after it twice, the gradients, the updates in float64, and every
    layer's output and its cotangent.
    """
    item = np.dtype(problem.dtype).itemsize
    leaves = parameters_in(problem)
    state = leaves + sum(one.size for one in problem.optimizer.initial_state(problem.initial).values())
    rows = problem.batching.size or len(problem.x)
    outputs = rows * sum(math.prod(layer.output_shape) for layer in problem.layers)
    stage = 3 * state + 2 * leaves + 2 * outputs + leaves * 8 // item
    return item * (problem.steps + state + len(moments.parameters) * leaves + len(moments.stages) * stage)


def parameters_in(problem: Problem) -> int:
    """How many numbers are trained."""
    return sum(math.prod(shape) for shape in problem.parameter_shapes.values())
