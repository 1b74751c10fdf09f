"""What was trained, as far as a report tells it."""

from __future__ import annotations

from typing import Any, Protocol


class Trained(Protocol):
    """A problem, or a task of adopted code."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def dtype(self) -> str:
        """``float64`` or ``float32``."""

    @property
    def epochs(self) -> int:
        """Passes over the data."""

    @property
    def steps(self) -> int:
        """How many steps are trained."""

    def replace(self, **changes: Any) -> Any:
        """The same but for `changes`."""
