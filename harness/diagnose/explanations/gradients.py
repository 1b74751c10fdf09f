"""Mistakes of the step: what is done to gradients before, or to parameters after the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.diagnose.explanations.optimizer import with_args
from lockstep.harness.runs.variant import Settle, Turn, Variant


def transposed_gradient(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The gradient of a square weight is that of its transpose: nothing complains."""
    square = [
        name
        for name, shape in problem.parameter_shapes.items()
        if len(shape) == 2 and shape[0] == shape[1] > 1
    ]
    for name in square:
        yield Variant(f"transposes the gradient of {name}", problem, turn=_only(name, np.transpose))


def sign(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Ascent for descent."""
    yield Variant("ascends: its gradients have the wrong sign", problem, turn=_scaled(-1.0))


def accumulated(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The sum of the accumulated gradients for their mean: the loss was not divided by k."""
    every = problem.accumulation
    if every > 1:
        yield Variant(
            "sums the accumulated gradients instead of averaging them", problem, turn=_scaled(every)
        )


def ratio(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Gradients off by a whole number that the problem has; the loss is right, else a reduction explains it."""
    rows, outputs = len(problem.x), int(np.prod(problem.y.shape[1:]))
    size = problem.batching.size or rows
    counts = {
        2: "two sides",
        rows: "the rows",
        size: "the rows of a batch",
        outputs: "the outputs",
        size * outputs: "all elements",
    }
    for count, what in counts.items():
        if count > 1:
            yield Variant(
                f"multiplies its gradients by {count}, as many as {what}", problem, turn=_scaled(float(count))
            )
            yield Variant(
                f"divides its gradients by {count}, as many as {what}", problem, turn=_scaled(1 / count)
            )


def stale(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The update comes before the backward pass."""
    yield Variant(
        "applies the gradients of the step before", problem, turn=lambda grads, previous: previous or grads
    )


def untouched(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """A parameter, or all of one kind, was not given to the optimizer."""
    kinds: dict[str, set[str]] = {name: {name} for name in problem.parameter_shapes}
    for name in problem.parameter_shapes:  # all biases, all scales: what belongs to one kind of parameter
        kinds.setdefault(f"any /{name.rpartition('/')[2]}", set()).add(name)
    for what, names in kinds.items():
        if len(names) < len(problem.parameter_shapes) and not (what.startswith("any") and len(names) == 1):
            yield Variant(f"never updates {what}", problem, settle=_kept(frozenset(names)))


def single(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Something is rounded to float32 in a float64 run."""
    if problem.dtype != "float64":
        return
    single: Callable[[Array], Array] = lambda value: value.astype(np.float32).astype(value.dtype)  # noqa: E731
    yield Variant(
        "rounds its gradients to float32", problem, turn=lambda grads, previous: _each(grads, single)
    )
    for start in (_stored(single), None):
        yield Variant(
            "keeps its parameters in float32"
            if start
            else "rounds its parameters to float32 after each update",
            problem,
            start=start,
            settle=lambda before, after: _stored(single)(after),
        )
    yield Variant("rounds its inputs to float32", problem.replace(x=single(problem.x)))
    yield Variant("rounds its data to float32", problem.replace(x=single(problem.x), y=single(problem.y)))
    yield Variant(
        "rounds its initial parameters to float32", problem.replace(initial=_each(problem.initial, single))
    )
    rate = float(np.float32(problem.optimizer.args["learning_rate"]))
    yield from with_args(problem, "rounds its learning rate to float32", learning_rate=rate)


def _stored(change: Callable[[Array], Array]) -> Callable[[Snapshot], Snapshot]:
    return lambda state: dataclasses.replace(state, parameters=_each(state.parameters, change))


def _each(arrays: Arrays, change: Callable[[Array], Array]) -> dict[str, Array]:
    return {name: change(value) for name, value in arrays.items()}


def _scaled(factor: float) -> Turn:
    return lambda grads, previous: _each(grads, lambda grad: factor * grad)


def _only(name: str, change: Callable[[Array], Array]) -> Turn:
    return lambda grads, previous: {**grads, name: change(grads[name])}


def _kept(names: frozenset[str]) -> Settle:
    def settle(before: Snapshot, after: Snapshot) -> Snapshot:
        kept = {name: value for name, value in before.parameters.items() if name in names}
        return dataclasses.replace(after, parameters={**after.parameters, **kept})

    return settle
