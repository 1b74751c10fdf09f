"""One problem for each schedule, its boundaries crossed on both sides within 100 updates, under momentum."""

from __future__ import annotations

import functools
from typing import Any

from lockstep.backends.problem import Optimizer, Problem, Schedule
from lockstep.harness.problems import Entry
from lockstep.harness.problems.families.optimizers import network

SCHEDULES: dict[str, tuple[dict[str, Any], str]] = {
    "step": (
        {"steps": 30, "factor": 0.5},
        "the rate drops at updates 30, 60 and 90, not one earlier or later",
    ),
    "piecewise": (
        {"boundaries": [20, 50, 51], "factors": [0.5, 0.5, 0.1]},
        "boundaries at uneven distances, one right after another",
    ),
    "exponential": (
        {"factor": 0.97},
        "the rate's power of t, which a traced int32 count would round to float32",
    ),
    "polynomial": ({"steps": 80, "power": 2.0}, "the rate reaches 0 at update 80 and stays"),
    "cosine": ({"steps": 80, "final": 0.1}, "after its end torch's own rises again, optax' stays"),
    "warmup_cosine": ({"warmup": 10, "steps": 80, "final": 0.1}, "the first update has rate 0"),
}


def _make(name: str) -> Problem:
    args, _ = SCHEDULES[name]
    problem = network(f"schedule-{name}", Optimizer("sgd", learning_rate=0.05, momentum=0.9))
    return problem.replace(schedule=Schedule(name, **args))


PROBLEMS = {
    f"schedule-{name}": Entry(functools.partial(_make, name), reason)
    for name, (_, reason) in SCHEDULES.items()
}
