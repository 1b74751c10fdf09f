"""What XLA has compiled is kept between runs: most of the suite's time went into compiling the same programs again.

The key is the program itself with its options and versions, so another program is never mistaken for it. JAX writes an
entry in place, so that neither a neighbour may read in the folder that a process writes to, nor a run that was cut short
leave half of an entry: each process has a folder of its own, with links to what is kept, and when the tests are over its
new entries are linked into what is kept, each at once.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

OWN = pytest.StashKey()
A_DAY = 24 * 60 * 60
MOST_BYTES = 400_000_000
"""Of what is kept; beyond, the oldest go."""


def processor():
    """What a program was compiled for: a kept one is not asked for on another machine."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:12]
    return "any"


def home():
    """Where programs are kept: in the virtual environment, and nowhere without one."""
    return Path(sys.prefix) / "xla-programs" if sys.prefix != sys.base_prefix else None


def link(source, target):
    """Another name for the same file; a whole entry or none, and what is there stays."""
    with suppress(FileExistsError, FileNotFoundError):
        os.link(source, target)


def borrow(kept, own):
    for entry in kept.glob("*-cache"):
        link(entry, own / entry.name)


def give_back(own, kept):
    """The entries that are new. JAX writes one in a single call: a process that was killed leaves an empty one or all."""
    kept.mkdir(parents=True, exist_ok=True)
    for entry in own.glob("*-cache"):
        if entry.stat().st_size:
            link(entry, kept / entry.name)
    prune(kept, MOST_BYTES)


def prune(kept, most):
    entries = []
    for entry in kept.glob("*-cache"):
        with suppress(FileNotFoundError):
            entries.append((entry.stat().st_mtime, entry.stat().st_size, entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries, key=lambda one: one[0]):
        if total <= most:
            break
        entry.unlink(missing_ok=True)
        total -= size


def clear(root):
    """What runs of yesterday left that were killed."""
    for left in root.glob("run-*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > A_DAY:
                shutil.rmtree(left, ignore_errors=True)


def keep_programs(config, root):
    """For this process and what it starts, until its tests are over."""
    if root is not None:
        root.mkdir(exist_ok=True)
        clear(root)
    own = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    if root is not None:
        borrow(root / processor(), own)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(own)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # XLA's own caches are for GPUs, and the key of a program would name their folder, which is another in each run.
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
    config.stash[OWN] = own, root


def keep_new_ones(config, exitstatus):
    """Where the tests came to their end, whether they passed or failed."""
    own, root = config.stash[OWN]
    if root is not None and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        give_back(own, root / processor())
