"""Parameters of every epoch, on their device until the run is over: to keep them costs what writing them costs."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lockstep.backends.problem import Array
from lockstep.backends.pytorch.arrays import canonical
from lockstep.backends.pytorch.layers import Leaf


class History:
    """What parameters were.

    Args:
        named: canonical name, parameter, its leaf.
        count: how often `keep` will be called.
    """

    def __init__(self, named: Iterable[tuple[str, torch.Tensor, Leaf]], count: int) -> None:
        self._rows = [
            (name, leaf, value.detach(), value.new_empty((count, *value.shape)))
            for name, value, leaf in named
        ]
        self._stored = 0

    def keep(self) -> None:
        """Store the parameters once more."""
        for _, _, value, rows in self._rows:
            rows[self._stored].copy_(value)
        self._stored += 1

    def read(self) -> dict[str, Array]:
        """(count, ...) for each parameter, in the canonical layout."""
        return {name: canonical(rows, leaf) for name, leaf, _, rows in self._rows}
