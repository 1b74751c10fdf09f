"""The task of adopted trainers, in place of a problem: the same batches for all of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError, failing, leaves, mapped
from lockstep.backends.problem import Array, Batch

MOST_BATCHES = 10_000
"""The most batches that are read where `steps` is not set: all are in memory at once, so that all sides train on the same."""


@dataclass(frozen=True)
class Task:
    """One training run of adopted code.

    Attributes:
        name: its name in reports.
        dtype: of the parameters of all trainers.
        data: the batch of each step; x and y may be trees of arrays.
    """

    name: str
    dtype: str
    data: tuple[Batch, ...]

    @property
    def steps(self) -> int:
        """How many steps are trained."""
        return len(self.data)

    @property
    def epochs(self) -> int:
        """One: the epochs of the user's own loop are not known here."""
        return 1

    @property
    def accumulation(self) -> int:
        """One: an update after every batch, unless the user's own optimizer accumulates."""
        return 1

    @property
    def landmarks(self) -> tuple[int, ...]:
        """None: changes on the way are not known."""
        return ()

    def batches(self) -> tuple[Batch, ...]:
        """The batch of each step, in order."""
        return self.data

    def until(self, steps: int) -> Task:
        """The first steps alone."""
        return self.replace(data=self.data[:steps])

    def replace(self, **changes: Any) -> Task:
        """The same task but for `changes`."""
        return dataclasses.replace(self, **changes)


def task_of(trainers: Sequence[Adopted], batches: Iterable[Any], steps: int | None, name: str) -> Task:
    """The task of these trainers.

    Args:
        trainers: two or more.
        batches: pairs (x, y) of arrays or of trees of them; read once, so that all train on the same. Floats are rounded to the
            parameters' dtype. Where there are fewer than `steps`, they are begun again.
        steps: how many to train; by default as many as there are batches.
        name: its name in reports.

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
    fix = "give pairs (x, y), one a step"
    if steps is not None and not (isinstance(steps, int) and steps >= 1):
        raise AdoptionError(
            "there is nothing to train on: steps is no number of them", repr(steps), "give 1 or more"
        )
    with failing("the batches cannot be read", fix):
        read = [_batch(one, dtype) for one in _bounded(batches, steps)]
    if not read:
        raise AdoptionError("there is nothing to train on", "0 batches", fix)
    return Task(name, dtype, tuple(itertools.islice(itertools.cycle(read), steps or len(read))))


def _bounded(batches: Iterable[Any], steps: int | None) -> Iterator[Any]:
    """The first `steps`; all of them, unless they do not end."""
    for count, one in enumerate(itertools.islice(batches, steps)):
        if steps is None and count == MOST_BATCHES:
            fix = "give steps= (on the command line --steps): how many to train"
            raise AdoptionError("the batches do not end", f"more than {MOST_BATCHES}", fix)
        yield one


def _batch(batch: Any, dtype: str) -> Batch:
    if not isinstance(batch, (tuple, list)) or len(batch) != (3 if isinstance(batch, Batch) else 2):
        got = f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
        fix = "give pairs of arrays, or of trees of them: ((x, weights), y) where there are more"
        raise AdoptionError("a batch is no pair (x, y)", got, fix)
    x, y = (mapped(lambda leaf: _array(leaf, dtype), part) for part in batch[:2])
    if not leaves(x):
        raise AdoptionError("a batch is empty: its x has no array", repr(x), "give at least one")
    return Batch(x, y, {})


def _array(leaf: Any, dtype: str) -> Array:
    """A leaf as NumPy, floats in the parameters' dtype; a tensor of a framework gives its numbers by itself."""
    array = np.array(leaf)
    if array.dtype.kind not in "fiub":
        fix = "give arrays of numbers; of bfloat16, cast them to float32"
        raise AdoptionError("a batch holds no numbers", str(array.dtype), fix)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def rows_of(batch: Batch) -> int:
    """How many rows a batch has: the length of its first array."""
    first = next(iter(leaves(batch.x).values()))
    return len(first) if first.ndim else 1
