"""Shared fixtures: the registry's backends, the seed problem, and problems with more shape to them."""

import gc
import os
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import settings

from lockstep import backends
from lockstep.backends.errors import DeviceUnavailableError
from lockstep.backends.problem import DTYPES, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import find
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


def square_problem(**changes):
    rng = np.random.default_rng(7)
    fields = {
        "name": "square",
        "x": rng.standard_normal((12, 3)),
        "y": rng.standard_normal((12, 2)),
        "model": (Layer("linear", size=3), Layer("dot", size=2), Layer("add")),
        "loss": Loss("squared_error", reduction="mean"),
        "optimizer": Optimizer("sgd", learning_rate=0.05),
        "epochs": 6,
        "initial": {
            "0.linear/w": rng.standard_normal((3, 3)),
            "0.linear/b": rng.standard_normal(3),
            "1.dot/w": rng.standard_normal((3, 2)),
            "2.add/b": rng.standard_normal(2),
        },
    }
    return Problem(**{**fields, **changes})


def advance(trainer, state, batch, steps):
    """The state after some steps on one batch."""
    for _ in range(steps):
        state, _ = trainer.step(state, batch)
    return state
