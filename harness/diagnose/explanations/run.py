"""What is trained on what: mistakes of the data, the loss, the penalties, the clip, the schedule."""

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
    Arrays,
    Clip,
    Loss,
    Penalty,
    Problem,
    Schedule,
)
from lockstep.backends.protocol import Snapshot
from lockstep.harness.diagnose.explanations.optimizer import with_args
from lockstep.harness.runs.variant import Variant


def reduction(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The mean for the sum, or the other way round."""
    args = problem.loss.args
    does = {
        "sum": "averages the loss where the problem sums it",
        "mean": "sums the loss where the problem averages it",
    }
    if args.get("reduction") in does:
        other = {"sum": "mean", "mean": "sum"}[args["reduction"]]
        yield Variant(
            does[args["reduction"]],
            problem.replace(loss=Loss(problem.loss.name, **{**args, "reduction": other})),
        )


def half_squares(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """e²/2 for e², or the other way round."""
    pair = {
        "squared_error": ("half_squared_error", "takes half the squares"),
        "half_squared_error": ("squared_error", "takes the whole squares where the problem says half"),
    }
    if problem.loss.name in pair:
        name, does = pair[problem.loss.name]
        yield Variant(does, problem.replace(loss=Loss(name, **problem.loss.args)))


def last_batch(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The last, short batch is dropped, or is not."""
    size, kept = problem.batching.size, problem.batching.keep_last
    if size is not None and len(problem.x) % size:
        does = (
            "drops the last, short batch"
            if kept
            else "trains on the last, short batch that the problem drops"
        )
        yield Variant(
            does, problem.replace(batching=dataclasses.replace(problem.batching, keep_last=not kept))
        )


def order(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The rows are not shuffled."""
    if problem.batching.shuffle is not None:
        yield Variant(
            "deals the rows in the order of the data, unshuffled",
            problem.replace(batching=dataclasses.replace(problem.batching, shuffle=None)),
        )


def short_run(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """An epoch too few or too many."""
    for epochs, does in (
        (problem.epochs - 1, "stops one epoch early"),
        (problem.epochs + 1, "trains one epoch more"),
    ):
        if epochs:
            yield Variant(does, problem.replace(epochs=epochs))


def rearranged(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Only what the suspect shows: its own initial parameters, where they are ours in another order."""
    ours = problem.initial_parameters()
    moved = {name: value for name, value in initial.items() if name in ours and not _equal(ours[name], value)}
    if not moved or any(
        not _equal(np.sort(ours[name], axis=None), np.sort(moved[name], axis=None)) for name in moved
    ):
        return
    turned = all(_equal(ours[name].T, value) for name, value in moved.items())
    yield Variant(
        f"starts from {', '.join(moved)} {'transposed' if turned else 'permuted'}",
        problem.replace(initial={**problem.initial, **moved}),
    )


def _equal(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool((left == right).all())


def schedule(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The learning rate alone, early or late by one update; left out; counting batches."""
    name, args, every = problem.schedule.name, problem.schedule.args, problem.accumulation
    if problem.schedule == CONSTANT:
        return
    yield Variant("leaves the schedule out", problem.replace(schedule=CONSTANT))
    if every > 1 and name == "exponential":
        faster = Schedule(name, factor=args["factor"] ** every)
        yield Variant("counts batches, not updates, in the schedule", problem.replace(schedule=faster))
    for by, does in ((1, "is one step of the schedule ahead"), (-1, "is one step of the schedule late")):
        if name == "exponential":
            rate = problem.optimizer.args["learning_rate"] * args["factor"] ** by
            yield from with_args(problem, does, learning_rate=rate)
        elif turns := _turns(problem):
            with suppress(ProblemError):
                moved = {turn - by: factor for turn, factor in turns.items()}
                course = Schedule("piecewise", boundaries=tuple(moved), factors=tuple(moved.values()))
                yield Variant(does, problem.replace(schedule=course))


def _turns(problem: Problem) -> dict[int, Any]:
    """Update -> what the rate is multiplied with from there on, of a schedule that is constant between."""
    args = problem.schedule.args
    if problem.schedule.name == "piecewise":
        return dict(zip(args["boundaries"], args["factors"], strict=True))
    if problem.schedule.name == "step":
        updates = problem.steps // problem.accumulation
        return dict.fromkeys(range(args["steps"], updates + 2, args["steps"]), args["factor"])
    return {}


def counter(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The update count moves the schedule and the bias corrections together."""
    if problem.schedule == CONSTANT and not ({"beta1", "decay"} & problem.optimizer.args.keys()):
        return

    def start(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(snapshot, step=snapshot.step + problem.accumulation)

    yield Variant("counts its updates from one too many", problem, start=start)


def penalties(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """No penalty, or one of other parameters."""
    if not problem.penalties:
        return
    others = {"all": "weights", "weights": "all"}
    swapped = [
        Penalty(one.name, **{**one.args, "parameters": others[str(one.args["parameters"])]})
        for one in problem.penalties
    ]
    yield Variant("leaves the penalty out", problem.replace(penalties=()))
    yield Variant(
        "penalises other parameters: all for the weights, or the weights for all",
        problem.replace(penalties=swapped),
    )


def clip(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """No clip, or the other one."""
    if problem.clip == UNCLIPPED:
        return
    name, limit = problem.clip.name, problem.clip.args["limit"]
    yield Variant("does not clip the gradients", problem.replace(clip=UNCLIPPED))
    other = {"norm": "value", "value": "norm"}[name]
    yield Variant(
        f"clips by {other} where the problem clips by {name}", problem.replace(clip=Clip(other, limit=limit))
    )
