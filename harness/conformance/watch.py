"""A watch over code that may never return: it says where it hangs, and ends the process."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType

from lockstep.harness.core.verdict import Verdict


class Watch:
    """Ends the process, with the exit status of what could not be judged, where one thing takes longer than it may.

    A deadlock in a framework's own code cannot be interrupted from Python; a thread beside it can still say so.

    Args:
        seconds: how long each may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, what: str) -> None:
        """`what` begins now, and what was before is over."""
        self._stop()
        self._timer = threading.Timer(self._seconds, self._end, [what])
        self._timer.daemon = True
        self._timer.start()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, what: str) -> None:
        print(
            f"error: it does not come back from {what}\n  got: nothing in {self._seconds:g} seconds\n"
            "  fix: see what it waits for, or allow more with --limit",
            file=sys.stderr,
            flush=True,
        )
        os._exit(Verdict.ERROR.exit_status)
