"""Minibatches: the order that the problem fixes, a last batch kept or dropped, gradients accumulated."""

from __future__ import annotations

from lockstep.backends.problem import Batching, Optimizer, Problem, Schedule
from lockstep.harness.problems import Entry
from lockstep.harness.problems.families.optimizers import network


def _shuffled(name: str, keep_last: bool) -> Problem:
    """20 rows in batches of 6, momentum carried across them."""
    optimizer = Optimizer("sgd", learning_rate=1e-2, momentum=0.9)
    batching = Batching(size=6, shuffle=0, keep_last=keep_last)
    return network(name, optimizer).replace(epochs=25, batching=batching)


def minibatches() -> Problem:
    """Four batches an epoch, the last of two rows."""
    return _shuffled("minibatches", keep_last=True)


def minibatches_dropped() -> Problem:
    """Three batches an epoch; two rows are left out, others each time."""
    return _shuffled("minibatches-dropped", keep_last=False)


def accumulated() -> Problem:
    """100 batches, three an update, the rate halved each 10 updates; the last batch is left over."""
    problem = _shuffled("accumulated", keep_last=True)
    return problem.replace(accumulation=3, schedule=Schedule("step", steps=10, factor=0.5))


PROBLEMS = {
    "minibatches": Entry(minibatches, "shuffled batches with a short last one: its mean weighs fewer rows"),
    "minibatches-dropped": Entry(minibatches_dropped, "the short last batch is dropped"),
    "accumulated": Entry(
        accumulated, "gradients of three batches averaged before an update, and a remainder"
    ),
}
