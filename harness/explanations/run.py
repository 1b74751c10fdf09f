"""Mistakes of the data, the loss, the penalties, the clip, the schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import (
    CONSTANT,
    UNCLIPPED,
    Array,
    Clip,
    Loss,
    Penalty,
    Problem,
    Schedule,
)
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.explanation import (
    formula,
)
from lockstep.harness.explanations.optimizer import (
    with_args,
)
from lockstep.harness.runs.intervention import Intervention


@formula
def reduction(problem: Problem) -> Iterator[Intervention]:
    """The mean for the sum, or the other way round."""
    args = problem.loss.args
    description = {
        "sum": "averages the loss where the problem sums it",
        "mean": "sums the loss where the problem averages it",
    }
    if args.get("reduction") in description:
        other = {"sum": "mean", "mean": "sum"}[args["reduction"]]
        yield Intervention(
            description[args["reduction"]],
            spec=problem.replace(loss=Loss(problem.loss.name, **{**args, "reduction": other})),
        )


@formula
def half_squares(problem: Problem) -> Iterator[Intervention]:
    """e²/2 for e², or the other way round."""
    pair = {
        "squared_error": ("half_squared_error", "takes half the squares"),
        "half_squared_error": ("squared_error", "takes the whole squares where the problem says half"),
    }
    if problem.loss.name in pair:
        name, description = pair[problem.loss.name]
        yield Intervention(description, spec=problem.replace(loss=Loss(name, **problem.loss.args)))


@formula
def last_batch(problem: Problem) -> Iterator[Intervention]:
    """The last, short batch is dropped, or is not."""
    size, keep_last = problem.batching.size, problem.batching.keep_last
    if size is not None and len(problem.x) % size:
        description = (
            "drops the last, short batch"
            if keep_last
            else "trains on the last, short batch that the problem drops"
        )
        yield Intervention(
            description,
            spec=problem.replace(batching=dataclasses.replace(problem.batching, keep_last=not keep_last)),
        )


@formula
def order(problem: Problem) -> Iterator[Intervention]:
    """The rows are not shuffled."""
    if problem.batching.shuffle is not None:
        yield Intervention(
            "deals the rows in the order of the data, unshuffled",
            spec=problem.replace(batching=dataclasses.replace(problem.batching, shuffle=None)),
        )


@formula
def short_run(problem: Problem) -> Iterator[Intervention]:
    """An epoch too few or too many."""
    for epochs, description in (
        (problem.epochs - 1, "stops one epoch early"),
        (problem.epochs + 1, "trains one epoch more"),
    ):
        if epochs:
            yield Intervention(description, spec=problem.replace(epochs=epochs))


def rearranged(evidence: Evidence) -> Iterator[Intervention]:
    """The suspect's own initial parameters, where they are the problem's in another order: nothing else shows it."""
    problem = evidence.problem
    if problem is None:
        return
    ours = problem.initial_parameters()
    moved = {
        name: value
        for name, value in evidence.initial.items()
        if name in ours and not _equal(ours[name], value)
    }
    if not moved or any(
        not _equal(np.sort(ours[name], axis=None), np.sort(moved[name], axis=None)) for name in moved
    ):
        return
    transposed = all(_equal(ours[name].T, value) for name, value in moved.items())
    yield Intervention(
        f"starts from {', '.join(moved)} {'transposed' if transposed else 'permuted'}",
        spec=problem.replace(initial={**problem.initial, **moved}),
    )


def _equal(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool((left == right).all())


@formula
def schedule(problem: Problem) -> Iterator[Intervention]:
    """The learning rate alone, early or late by one update; left out; counting batches."""
    name, args, every = problem.schedule.name, problem.schedule.args, problem.accumulation
    if problem.schedule == CONSTANT:
        return
    yield Intervention("leaves the schedule out", spec=problem.replace(schedule=CONSTANT))
    if every > 1 and name == "exponential":
        faster = Schedule(name, factor=args["factor"] ** every)
        yield Intervention(
            "counts batches, not updates, in the schedule", spec=problem.replace(schedule=faster)
        )
    for by, description in (
        (1, "is one step of the schedule ahead"),
        (-1, "is one step of the schedule late"),
    ):
        if name == "exponential":
            rate = problem.optimizer.args["learning_rate"] * args["factor"] ** by
            yield from with_args(problem, description, learning_rate=rate)
        elif boundaries := _boundaries(problem):
            with suppress(ProblemError):
                moved = {boundary - by: factor for boundary, factor in boundaries.items()}
                moved_schedule = Schedule("piecewise", boundaries=tuple(moved), factors=tuple(moved.values()))
                yield Intervention(description, spec=problem.replace(schedule=moved_schedule))


def _boundaries(problem: Problem) -> dict[int, Any]:
    """Update -> the factor of the rate from there on, for a schedule that is constant in between."""
    args = problem.schedule.args
    if problem.schedule.name == "piecewise":
        return dict(zip(args["boundaries"], args["factors"], strict=True))
    if problem.schedule.name == "step":
        updates = problem.steps // problem.accumulation
        return dict.fromkeys(range(args["steps"], updates + 2, args["steps"]), args["factor"])
    return {}


@formula
def counter(problem: Problem) -> Iterator[Intervention]:
    """The update count moves the schedule and the bias corrections together."""
    if problem.schedule == CONSTANT and not ({"beta1", "decay"} & problem.optimizer.args.keys()):
        return

    def on_start(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(snapshot, step=snapshot.step + problem.accumulation)

    yield Intervention("counts its updates from one too many", on_start=on_start)


@formula
def penalties(problem: Problem) -> Iterator[Intervention]:
    """No penalty, or one of other parameters."""
    if not problem.penalties:
        return
    others = {"all": "weights", "weights": "all"}
    swapped = [
        Penalty(one.name, **{**one.args, "parameters": others[str(one.args["parameters"])]})
        for one in problem.penalties
    ]
    yield Intervention("leaves the penalty out", spec=problem.replace(penalties=()))
    yield Intervention(
        "penalises other parameters: all for the weights, or the weights for all",
        spec=problem.replace(penalties=swapped),
    )


@formula
def clip(problem: Problem) -> Iterator[Intervention]:
    """No clip, or the other one."""
    if problem.clip == UNCLIPPED:
        return
    name, limit = problem.clip.name, problem.clip.args["limit"]
    yield Intervention("does not clip the gradients", spec=problem.replace(clip=UNCLIPPED))
    other = {"norm": "value", "value": "norm"}[name]
    yield Intervention(
        f"clips by {other} where the problem clips by {name}",
        spec=problem.replace(clip=Clip(other, limit=limit)),
    )
