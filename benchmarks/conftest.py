"""What every suite shares: a time is taken only of what agrees, and says where it was measured."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import lockstep
from lockstep import backends
from lockstep.backends.problem import Problem
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.environment.manifest import manifest

PACKAGES = (
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "dm-haiku",
    "optax",
    "torch",
    "autograd",
    "keras",
    "scikit-learn",
)
"""Whose versions a time depends on."""

REQUIRED = ("verdict", "versions", "threads", "bytes", "flops")
"""What stands beside every time. Bytes and flops are the least that the work needs."""


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="smallest sizes, one round: whether they run")


def pytest_configure(config):
    if os.environ.get("PYTEST_XDIST_WORKER") or getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "benchmarks do not run under pytest-xdist: the processes would time each other"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A benchmark that does not say all that its time depends on fails."""
    found = yield
    benchmark = item.funcargs.get("benchmark")
    if benchmark is None:
        pytest.fail(f"{item.name} measures nothing: it takes no fixture `benchmark`")
    missing = [key for key in REQUIRED if key not in benchmark.extra_info]
    if missing or not benchmark.group:
        pytest.fail(f"{item.name} does not state {', '.join(missing) or 'its group'}")
    return found


@pytest.fixture(scope="session")
def quick(request):
    return request.config.getoption("--quick")


@pytest.fixture(scope="session")
def rounds(quick):
    """Of an interleaved comparison."""
    return 2 if quick else 15


@pytest.fixture(scope="session")
def agreed():
    """The verdict on a backend and a problem, over its first epochs; where it is not AGREE, the benchmark fails."""

    verdicts: dict[tuple[object, ...], Verdict] = {}

    def judge(name: str, problem: Problem, epochs: int = 5) -> str:
        short = problem.replace(epochs=min(problem.epochs, epochs))
        key = name, short.name, short.x.shape, short.optimizer, short.epochs, short.dtype
        if key not in verdicts:
            pair = [backends.REFERENCE, name] if name != backends.REFERENCE else [name, "torch"]
            verdicts[key] = lockstep.verify(short, backends=pair, dtypes=[short.dtype]).verdict
        if verdicts[key] is not Verdict.AGREE:
            pytest.fail(f"{name} on {problem.name}: {verdicts[key].value}; no time is shown")
        return verdicts[key].value

    return judge


@pytest.fixture(scope="session")
def here():
    """Where all of this is measured."""
    content = manifest()
    kept = ("lockstep", "git_commit", "python", "cpu", "cores", "blas", "thread_variables")
    return {key: content[key] for key in kept} | {"versions": dict(_versions())}


@pytest.fixture
def stated(benchmark, here):
    """Writes beside the time what it depends on: `verdict`, `bytes`, `flops` and more; versions and threads by itself."""

    def state(**figures: object) -> None:
        benchmark.extra_info.update({**here, "threads": _threads(here["blas"]), **figures})

    return state


def _versions():
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None


def _threads(blas):
    """Of this process, and of every library that says how many it takes."""
    torch = sys.modules.get("torch")
    return {
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "blas": [one["num_threads"] for one in blas],
        "torch": torch.get_num_threads() if torch else None,
    }
