"""Clipped gradients: limits that the first updates exceed and the last ones do not."""

from __future__ import annotations

import functools
from typing import Any

from lockstep.backends.problem import Clip, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.families.optimizers import network

LIMITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "clip-norm": ("norm", {"limit": 0.5}, "torch's convention: 1e-6 is added to the norm"),
    "clip-norm-exact": ("norm", {"limit": 0.5, "epsilon": 0.0}, "optax' convention: nothing is added"),
    "clip-value": ("value", {"limit": 0.1}, "each element by itself: the direction changes"),
}


def _make(name: str) -> Problem:
    clip, args, _ = LIMITS[name]
    problem = network(name, Optimizer("sgd", learning_rate=0.05, momentum=0.9))
    return problem.replace(clip=Clip(clip, **args))


PROBLEMS = {name: Entry(functools.partial(_make, name), reason) for name, (_, _, reason) in LIMITS.items()}
