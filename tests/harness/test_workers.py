"""Side by side and in process train the same; a dead process is a finding, not a crash."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lockstep import backends
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems import find
from lockstep.harness.runs.processes import ahead, side_by_side
from lockstep.harness.runs.workers import in_background, in_process
from tests.conftest import BACKENDS


class Dies:
    """A backend whose process ends in the middle of training."""

    name = "dies"

    def supports(self, problem):
        os._exit(11)


class DiesOnTheSecond:
    """Trains the seed as NumPy does; the next problem kills the process."""

    name = "dies"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(backends.load("numpy"), name)

    def supports(self, problem):
        if problem.name != "seed":
            os._exit(11)


class Raises:
    name = "raises"

    def supports(self, problem):
        raise RuntimeError("broken on purpose")


@pytest.mark.slow
def test_side_by_side_trains_what_in_process_trains():
    problems = [find("seed"), find("seed").replace(dtype="float32")]
    chosen = ["numpy", "torch"]
    key = lambda run: (run.backend, run.dtype)  # noqa: E731
    here, there = (sorted(how(chosen, problems), key=key) for how in (in_process, side_by_side))
    assert list(map(key, here)) == list(map(key, there))
    for left, right in zip(here, there, strict=True):
        np.testing.assert_array_equal(left.trace.losses, right.trace.losses)
        assert left.given == right.given


def test_a_dead_process_is_an_error_of_its_backend():
    runs = list(side_by_side([Dies(), "numpy"], [find("seed")]))
    found = {run.backend: run.verdict for run in runs}
    assert found == {"dies": Verdict.ERROR, "numpy": Verdict.AGREE}
    assert any("its process died" in run.reason for run in runs)


def test_a_process_that_dies_late_keeps_what_it_had_done():
    problems = [find("seed"), find("seed-unrounded")]
    found = {run.problem: run.verdict for run in side_by_side([DiesOnTheSecond()], problems)}
    assert found == {"seed": Verdict.AGREE, "seed-unrounded": Verdict.ERROR}


def test_a_run_crosses_processes_without_its_framework():
    """A version string of torch's own type would import torch in the parent, for a second."""
    for backend in BACKENDS:
        (run,) = in_process([backend], [find("seed")])
        modules = {type(value).__module__ for value in run.environment.values()}
        assert modules == {"builtins"}


def test_processes_that_get_no_problem_end_with_their_context():
    with ahead([Dies(), "numpy"]):
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("seconds", [0.5, 2])
def test_an_interrupt_is_told_in_one_word(seconds):
    """Ctrl-C goes to every process of the terminal; those that still import a framework print no traceback."""
    command = [sys.executable, "-m", "lockstep", "verify", "seed"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=50)
    # A shell tells both as 130; Python itself ends by the signal where it came within an exec, as a dataclass is made by.
    assert process.returncode in (130, -signal.SIGINT)
    assert (out, err) == ("", "interrupted\n")


def test_what_starts_processes_imports_little():
    """They are started first; what this module imports they would wait for."""
    code = "import sys, lockstep.harness.runs.processes; print(sorted({'numpy', 'rich', 'jsonschema'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_exception_is_an_error_of_its_backend():
    (run,) = in_process([Raises()], [find("seed")])
    assert run.verdict is Verdict.ERROR
    assert "RuntimeError: broken on purpose (supports, line" in run.reason


def test_work_in_the_background_gives_its_result_or_its_error():
    assert in_background(lambda: 3)() == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0)()


def test_an_interrupted_process_does_not_wait_for_work_in_the_background():
    code = "import time; from lockstep.harness.runs.workers import in_background; in_background(lambda: time.sleep(60)); raise KeyboardInterrupt"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=50)
    assert done.returncode != 0
    assert time.perf_counter() - started < 45
