"""The specification of a training run: a problem of the catalogue, or the batches that a user's own code is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from lockstep.backends.problem import Batch


class RunSpec(Protocol):
    """One training run. `lockstep.backends.problem.Problem` is one."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    @property
    def dtype(self) -> str:
        """``float64`` or ``float32``."""

    @property
    def epochs(self) -> int:
        """Passes over the data."""

    @property
    def steps(self) -> int:
        """How many batches are trained on."""

    @property
    def accumulation(self) -> int:
        """Over how many batches gradients are accumulated before an update."""

    @property
    def landmarks(self) -> Sequence[int]:
        """Steps at which something changes on the way: the ends of an epoch, the boundaries of a schedule."""

    def batches(self) -> Iterable[Batch]:
        """The batch of each step, in order; the same at each call."""

    def until(self, steps: int) -> Any:
        """The same run, cut after at least so many steps; of a run with epochs, at the end of one."""

    def replace(self, **changes: Any) -> Any:
        """The same run but for `changes`."""
