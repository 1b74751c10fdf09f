"""Threads and processors that every timed process is pinned to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.backends.errors import LockstepError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",  # XLA's own
)

FRESH = {"JAX_ENABLE_COMPILATION_CACHE": "false", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
"""Compiled code is not read from a disk, because compilation is timed."""


@dataclass(frozen=True)
class Pinned:
    """So many threads, on these processors.

    Attributes:
        threads: of every library.
        cpus: the processors' numbers; none where the system cannot bind a process to them.
    """

    threads: int
    cpus: tuple[int, ...]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that set this."""
        single = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if self.threads == 1 else {}
        return {**dict.fromkeys(THREADS, str(self.threads)), **FRESH, **single}

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """A process's whole environment: the inherited one, our modules' folders, and the variables."""
        # The same modules as here, whatever the folder; -P keeps that folder itself out.
        return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **self.variables}


def pin(threads: int | None = None) -> Pinned:
    """So many of the processors that this process may use; by default all of them.

    Raises:
        LockstepError: there are not so many.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    most = len(usable) or os.cpu_count() or 1
    if threads is not None and not 1 <= threads <= most:
        raise LockstepError(
            "this machine does not have that many threads", repr(threads), f"give an int from 1 to {most}"
        )
    return Pinned(threads or most, tuple(usable[: threads or most]))
