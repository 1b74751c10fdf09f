"""Shared fixtures: the registry's backends, the seed problem, and problems with more shape to them."""

import gc
import os
from contextlib import nullcontext

import pytest
from hypothesis import settings

from lockstep import backends
from lockstep.backends.errors import DeviceUnavailableError
from lockstep.backends.problem import DTYPES
from lockstep.harness.problems import find
from lockstep.harness.problems.square import square as square_problem
from lockstep.harness.runs import processes, workers
from tests import programs, sample
from tests.sample import pytest_addoption, pytest_collection_modifyitems, pytest_terminal_summary  # noqa: F401

# No example is timed: machines are shared. In CI the examples are the same each time; at a desk they are new ones.
settings.register_profile("lockstep", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lockstep")

BACKENDS = list(backends.entries())


def pytest_configure(config):
    # With Python's own 700 a fifth of the suite's time went into looking for garbage among what frameworks import.
    gc.set_threshold(100_000)
    sample.pytest_configure(config)
    programs.keep_programs(config, programs.home())


def pytest_sessionfinish(session, exitstatus):
    programs.keep_new_ones(session.config, exitstatus)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Every registered backend in turn."""
    return backends.load(request.param)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def beside_others(monkeypatch):
    """A benchmark refuses to run beside others; a test that asserts no time may."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def in_one_process(monkeypatch):
    """Commands train here, where the frameworks are imported already; tests/harness/test_workers.py has the processes."""
    monkeypatch.setattr(processes, "ahead", lambda chosen: nullcontext(workers.in_process))
    monkeypatch.setattr(processes, "side_by_side", workers.in_process)


def available(name):
    """A backend; the test is skipped, with the reason, where its device is not here. An absent framework is a failure."""
    try:
        return backends.load(name)
    except DeviceUnavailableError as error:
        pytest.skip(error.got)


@pytest.fixture
def full_precision(monkeypatch):
    """Float32 as it is written: by default a GPU's products or convolutions may round to TF32."""
    import jax
    import torch

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", "highest")
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.fixture
def seed():
    return find("seed")


@pytest.fixture
def square():
    """Two layers, the first with a square weight, which a transposed copy would fit without complaint."""
    return square_problem()


def advance(trainer, state, batch, steps):
    """The state after some steps on one batch."""
    for _ in range(steps):
        state, _ = trainer.step(state, batch)
    return state
