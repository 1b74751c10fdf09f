"""Implementations: a backend, or a user's own adopted code. The harness drives both the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lockstep.backends.protocol import Trainer, Unsupported


class Implementation(Protocol):
    """Makes trainers of a `lockstep.harness.core.spec.RunSpec`. Every `lockstep.backends.protocol.Backend` is one, of problems."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def supports(self, spec: Any, /) -> Unsupported | None:
        """None, or the reason why it cannot train this."""

    def trainer(self, spec: Any, /) -> Trainer:
        """A fresh trainer."""

    def environment(self) -> Mapping[str, str | int | bool]:
        """Versions, threads, devices and precision switches that its numbers depend on."""
