"""What every suite shares: a time is taken only of what agrees, and says where it was measured."""

from __future__ import annotations

import os

import pytest

import backends
import harness
from backends.problem import Problem
from harness.manifest import manifest
from harness.verdict import Verdict


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="smallest sizes, one round: whether they run")


def pytest_configure(config):
    if os.environ.get("PYTEST_XDIST_WORKER") or getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "benchmarks do not run under pytest-xdist: the processes would time each other"
        )


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
            verdicts[key] = harness.verify(short, backends=pair, dtypes=[short.dtype]).verdict
        if verdicts[key] is not Verdict.AGREE:
            pytest.fail(f"{name} on {problem.name}: {verdicts[key].value}; no time is shown")
        return verdicts[key].value

    return judge


@pytest.fixture
def stated(benchmark):
    """Writes beside the time what it depends on."""

    def state(**figures: object) -> None:
        told = manifest()
        kept = {
            key: told[key]
            for key in ("lockstep", "python", "numpy", "cpu", "cores", "blas", "thread_variables")
            if key in told
        }
        benchmark.extra_info.update({**kept, **figures})

    return state
