"""Every optimizer under every schedule, on all backends: no pair of rows is left out."""

import itertools

import pytest

from lockstep.backends.ops import OPTIMIZERS, SCHEDULES
from lockstep.backends.problem import Optimizer, Schedule
from lockstep.harness.core.compare import compare_runs, expected_of
from lockstep.harness.core.tolerance import Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems.families.optimizers import network
from lockstep.harness.runs.workers import in_process
from tests.conftest import BACKENDS

TOLERANCE = Tolerance(
    1e-12, 0.0, True, "what two implementations of one mathematics may differ by in 100 steps"
)

COURSES = {
    "constant": {},
    "step": {"steps": 30, "factor": 0.5},
    "piecewise": {"boundaries": [20, 50], "factors": [0.5, 0.1]},
    "exponential": {"factor": 0.97},
    "polynomial": {"steps": 80, "power": 2.0},
    "cosine": {"steps": 80, "final": 0.1},
    "warmup_cosine": {"warmup": 10, "steps": 80, "final": 0.1},
}


def problem(optimizer, course):
    """The network of the catalogue, at the framework's default rate."""
    preset = "torch" if "torch" in OPTIMIZERS[optimizer].presets else "optax"
    rate = {} if preset == "torch" else {"learning_rate": 1e-3}
    made = Optimizer(optimizer, preset=preset, **rate)
    return network(f"{optimizer} {course}", made).replace(schedule=Schedule(course, **COURSES[course]))


def test_every_schedule_has_a_course():
    assert set(COURSES) == set(SCHEDULES)


def pairs():
    """Every optimizer under every schedule; all but one schedule an optimizer, in turn, are left to the sweep."""
    for row, optimizer in enumerate(OPTIMIZERS):
        for column, course in enumerate(SCHEDULES):
            marks = () if row % len(SCHEDULES) == column else pytest.mark.sweep
            yield pytest.param(optimizer, course, marks=marks)


@pytest.mark.parametrize(("optimizer", "course"), list(pairs()))
def test_backends_agree(optimizer, course):
    given = problem(optimizer, course)
    runs = list(in_process(BACKENDS, [given]))
    assert [run.reason for run in runs] == [""] * len(BACKENDS)
    compared = [
        one
        for left, right in itertools.combinations(runs, 2)
        for one in compare_runs(given, left, right, TOLERANCE, expected_of(given))
    ]
    quantities, pairs = 2 + len(given.initial), len(BACKENDS) * (len(BACKENDS) - 1) // 2
    assert len(compared) == quantities * pairs
    assert [one for one in compared if one.verdict is not Verdict.AGREE] == []
