"""What adopted trainers are trained on, in place of a problem: the same batches for all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.adoption import Adopted, AdoptionError, leaves, mapped
from backends.problem import Array, Batch


@dataclass(frozen=True)
class Task:
    """One training run of adopted code.

    Attributes:
        name: what reports call it.
        dtype: of the parameters of all trainers.
        batches: what each step sees; x and y may be trees of arrays.
    """

    name: str
    dtype: str
    batches: tuple[Batch, ...]

    @property
    def steps(self) -> int:
        """How many steps are trained."""
        return len(self.batches)

    @property
    def epochs(self) -> int:
        """One: what is epochs to the user's own loop is not known here."""
        return 1

    def replace(self, **changes: Any) -> Task:
        """The same task but for `changes`."""
        return dataclasses.replace(self, **changes)


def task_of(trainers: Sequence[Adopted], batches: Iterable[Any], steps: int | None, name: str) -> Task:
    """The task of these trainers.

    Args:
        trainers: two or more.
        batches: pairs (x, y) of arrays or of trees of them; read once, so that all see the same. Floats are rounded to the
            parameters' dtype. Where there are fewer than `steps`, they are begun again.
        steps: how many to train; by default as many as there are batches.
        name: what reports call it.

    Raises:
        AdoptionError: the trainers' dtypes differ, there is no batch, or one is no pair of arrays.
    """
    dtypes = {one.name: one.dtype for one in trainers}
    if len(set(dtypes.values())) > 1:
        raise AdoptionError(
            "the trainers' parameters have different dtypes",
            ", ".join(f"{name}: {dtype}" for name, dtype in dtypes.items()),
            "make all of them float64 (torch: module.double(); JAX: JAX_ENABLE_X64=1), or all float32",
        )
    dtype = trainers[0].dtype
    read = [_batch(one, dtype) for one in (batches if steps is None else itertools.islice(batches, steps))]
    if not read or (steps is not None and steps < 1):
        got = "0 batches" if not read else f"{steps} steps"
        raise AdoptionError("there is nothing to train on", got, "give pairs (x, y), one a step")
    return Task(name, dtype, tuple(itertools.islice(itertools.cycle(read), steps or len(read))))


def _batch(given: Any, dtype: str) -> Batch:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise AdoptionError(
            "a batch is no pair (x, y)", type(given).__name__, "give pairs of arrays, or of trees of them"
        )
    x, y = (mapped(lambda leaf: _array(leaf, dtype), part) for part in given[:2])
    return Batch(x, y, {})


def _array(leaf: Any, dtype: str) -> Array:
    """A leaf as NumPy, floats in the parameters' dtype; a tensor of a framework gives its numbers by itself."""
    array = np.array(leaf)
    if array.dtype.kind not in "fiub":
        raise AdoptionError("a batch holds no numbers", str(array.dtype), "give arrays of numbers")
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def rows_of(batch: Batch) -> int:
    """How many rows a batch has: the length of its first array."""
    first = next(iter(leaves(batch.x).values()))
    return len(first) if first.ndim else 1
