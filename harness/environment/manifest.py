"""The environment that numbers depend on: versions, processor, BLAS, threads, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")
DISTRIBUTION = "lockstep-parity"


def manifest() -> dict[str, Any]:
    """The facts of this process and machine, as JSON values. Imports NumPy (for its BLAS) and nothing heavier."""
    import numpy as np
    from threadpoolctl import threadpool_info

    pools = [  # in an order of our own: that in which libraries were loaded changes from run to run
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads", "architecture")}
        for pool in sorted(threadpool_info(), key=lambda pool: (pool["internal_api"], pool["filepath"]))
    ]
    pools.sort(key=str)  # they come in the order in which libraries were loaded
    return {
        "lockstep": lockstep_version(),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "blas": pools,
        "byte_order": sys.byteorder,
        "thread_variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def lockstep_version() -> str:
    """The installed version, or ``unknown`` in a folder that was never installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def git_commit() -> str | None:
    """The commit of the checkout that this code belongs to; ``+changes`` if files differ; None outside one."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    commit = _git(home, "rev-parse", "HEAD")
    changes = _git(home, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if commit and changes else commit


def _git(home: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
