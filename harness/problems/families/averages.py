"""Averaged parameters: both conventions of the start, under a momentum that overshoots."""

from __future__ import annotations

from lockstep.backends.problem import Average, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.families.optimizers import network


def _problem(name: str, debias: bool) -> Problem:
    problem = network(name, Optimizer("sgd", learning_rate=0.05, momentum=0.9))
    return problem.replace(average=Average("ema", decay=0.95, debias=debias))


def averaged() -> Problem:
    """From a copy of the first update's parameters."""
    return _problem("averaged", debias=False)


def averaged_debiased() -> Problem:
    """From zero, divided by 1 − dᵗ."""
    return _problem("averaged-debiased", debias=True)


PROBLEMS = {
    "averaged": Entry(averaged, "an average that starts from a copy: torch's convention"),
    "averaged-debiased": Entry(averaged_debiased, "an average that starts from zero: optax' convention"),
}
