"""`--sample PERCENT`: of what is many alike, as many as CI can afford, chosen anew with every commit.

Alike are the cases of one test function that are marked `sweep`. At least one of each function is taken. Also a plugin
(`-p tests.sample`) and a command (`python -m tests.sample 12`: so many problems).
"""

import functools
import math
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

OUTSIDE = "lockstep"
"""The seed where there is no commit, as in an archive of the source."""


def seed_of_commit():
    """The commit's first twelve digits."""
    try:
        asked = ["git", "rev-parse", "--short=12", "HEAD"]
        done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return OUTSIDE
    return done.stdout.strip()


def choose(names, count, seed):
    """So many of the names; the same for the same seed, whatever their order."""
    return set(random.Random(f"{seed} {min(names)}").sample(sorted(names), count))


def pytest_addoption(parser):
    group = parser.getgroup("sample", "of what is many alike")
    group.addoption("--sample", type=float, metavar="PERCENT", help="of each test marked sweep, some cases")
    group.addoption("--sample-all", action="store_true", help="of every test, whatever its marks")
    group.addoption("--sample-seed", metavar="SEED", help="which; default: the commit")


def pytest_configure(config):
    if config.option.sample is not None and not 0 < config.option.sample <= 100:
        raise pytest.UsageError(
            f"--sample takes a percentage above 0, at most 100, not {config.option.sample}"
        )


@functools.cache
def _seed(config):
    return config.option.sample_seed or seed_of_commit()


def pytest_collection_modifyitems(config, items):
    if config.option.sample is None:
        return
    alike = defaultdict(dict)
    for item in items:
        if config.option.sample_all or item.get_closest_marker("sweep"):
            alike[item.nodeid.partition("[")[0]][item.nodeid] = item
    left = set()
    for cases in alike.values():
        count = math.ceil(len(cases) * config.option.sample / 100)
        left |= set(cases) - choose(cases, count, _seed(config))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left])
    items[:] = [item for item in items if item.nodeid not in left]


def pytest_terminal_summary(terminalreporter, config):
    """At the end: with --quiet nothing is printed at the start."""
    if config.option.sample is not None:
        terminalreporter.write_line(
            f"sample: {config.option.sample:g} % of the cases of each {'test' if config.option.sample_all else 'sweep'}; "
            f"again: --sample-seed {_seed(config)}"
        )


def problems(count):
    """So many problems of the catalogue that are not of the core."""
    from lockstep.harness.problems import CORE, catalogue

    others = sorted(set(catalogue()) - set(CORE))
    return sorted(choose(others, count, seed_of_commit()))


if __name__ == "__main__":
    print(*problems(int(sys.argv[1])))
