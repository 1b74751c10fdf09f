"""Resident memory of this process, and the most there was of it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def resident() -> int:
    """Bytes now; the peak where the system reports nothing else."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """The largest number of bytes since the start, or since `forget_peak`.

    On Linux a process inherits its parent's ru_maxrss, so it is used only where there is no /proc.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Begin the peak anew, where the system can."""
    try:
        RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def physical() -> int | None:
    """Bytes of memory that the machine has; None where the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _status(key: str) -> int:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(values[0]) * 1024 if values else 0
