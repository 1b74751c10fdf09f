"""What each step trains on: rows in an order, and dropout's masks, drawn in NumPy so that all backends share them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.arrays import Array, Arrays
from lockstep.backends.errors import ProblemError
from lockstep.backends.shapes import Shape


class Mask(NamedTuple):
    """What dropout multiplies with: drawn in NumPy for each epoch, so that all backends share it.

    Attributes:
        layer: canonical name of the layer.
        seed: what the draws depend on besides the epoch.
        keep: probability that an element survives.
        shape: of one example.
    """

    layer: str
    seed: tuple[int, ...]
    keep: float
    shape: Shape

    def draw(self, epoch: int, rows: int, dtype: np.dtype[Any]) -> Array:
        """(rows, ...): 0 with probability 1 − keep, else 1/keep."""
        retained = np.random.default_rng([*self.seed, epoch]).random((rows, *self.shape)) < self.keep
        mask: Array = retained.astype(dtype) / dtype.type(self.keep)
        return mask


class Batch(NamedTuple):
    """What one training step sees.

    Attributes:
        x: (n, ...), in the problem's dtype; to a user's own code it may be a tree of arrays.
        y: (n, ...), likewise.
        masks: what each dropout layer multiplies with, (n, ...), by the layer's canonical name.
    """

    x: Any
    y: Any
    masks: Arrays = MappingProxyType({})

    def stages(self) -> dict[str, Array]:
        """It as stages: ``batch/x``, ``batch/y`` and ``batch/mask/<layer>``."""
        masks = {f"batch/mask/{layer}": mask for layer, mask in self.masks.items()}
        return {"batch/x": self.x, "batch/y": self.y, **masks}


@dataclass(frozen=True)
class Batching:
    """How the rows are dealt to the steps of an epoch.

    Attributes:
        size: rows a batch; None for all of them at once.
        shuffle: seed of the order, a new one each epoch; None for the order of the data.
        keep_last: whether a last batch of fewer than `size` rows is trained on or dropped.
    """

    size: int | None = None
    shuffle: int | None = None
    keep_last: bool = True

    def check(self, rows: int) -> None:
        """Raise a ProblemError unless it deals `rows` rows to at least one step."""
        for name, value, low in (("size", self.size, 1), ("shuffle", self.shuffle, 0)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
                raise ProblemError(f"batching: {name} is not valid", repr(value), f"give an int >= {low}")
        if self.size is None and (self.shuffle is not None or not self.keep_last):
            raise ProblemError(
                "batching without a size has no order", repr(self), "give a size, or nothing else"
            )
        if self.size is not None and self.size > rows:
            raise ProblemError(
                "batching: size is larger than the data", f"{self.size} of {rows} rows", "give a smaller size"
            )

    def steps(self, rows: int) -> int:
        """How many batches an epoch has."""
        if self.size is None:
            return 1
        return -(-rows // self.size) if self.keep_last else rows // self.size

    def order(self, rows: int, epoch: int) -> Array:
        """The rows that an epoch sees, in order; drawn in NumPy, so that all backends share it."""
        order = np.arange(rows)
        if self.shuffle is not None:
            order = np.random.default_rng([self.shuffle, epoch]).permutation(rows)
        return order[: self.steps(rows) * (self.size or rows)]


WHOLE = Batching()
"""Every epoch sees all rows as one batch."""


@dataclass(frozen=True)
class Batches:
    """The batches of a whole run, step by step."""

    x: Array
    y: Array
    epochs: int
    batching: Batching = WHOLE
    dropped: tuple[Mask, ...] = ()

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.batching.steps(len(self.x))

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        size = self.batching.size
        for epoch in range(self.epochs):
            masks = self.masks(epoch)
            if size is None:
                yield Batch(self.x, self.y, masks)
                continue
            order = self.order(epoch)
            for start in range(0, len(order), size):
                part = slice(start, start + size)
                rows = order[part]
                yield Batch(self.x[rows], self.y[rows], {layer: mask[part] for layer, mask in masks.items()})

    def order(self, epoch: int) -> Array:
        """The rows that an epoch sees, in order."""
        return self.batching.order(len(self.x), epoch)

    def masks(self, epoch: int) -> dict[str, Array]:
        """The masks of an epoch by layer, (rows that it sees, ...), in that order."""
        rows = len(self.x)
        if self.batching.size is not None and not self.batching.keep_last:
            rows = self.per_epoch * self.batching.size
        return {mask.layer: mask.draw(epoch, rows, self.x.dtype) for mask in self.dropped}
