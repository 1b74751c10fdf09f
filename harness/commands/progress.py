"""A progress display on stderr, for as long as training lasts."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.status import Status

from lockstep.harness.core.compare import Run


class Progress:
    """A line with the last item and the number of items done; only on a terminal, removed at the end."""

    def __init__(self, quiet: bool, doing: str = "training") -> None:
        self._count = 0
        self._quiet = quiet
        self._status: Status | None = None
        if sys.stderr.isatty() and not quiet:
            self._status = Status(doing, console=Console(stderr=True))

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def finished(self, run: Run) -> None:
        """Show that one more run is done."""
        self.advance(f"{run.problem} {run.dtype} on {run.backend}")

    def advance(self, last: str) -> None:
        """Show that one more item is done."""
        self._count += 1
        self.say(f"{self._count} done; last: {last}")

    def note(self, words: str) -> None:
        """Print a line that stays, on a terminal or not."""
        if not self._quiet:
            print(words, file=sys.stderr)

    def say(self, words: str) -> None:
        """Show this until something else is shown."""
        if self._status is not None:
            self._status.update(words)
