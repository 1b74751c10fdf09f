"""Mistakes of the step: changes of gradients before, or of parameters after the optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lockstep.backends.problem import Problem
from lockstep.harness.explanations.changes import (
    Change,
    each,
    each_parameter,
    every_gradient,
    never_updated,
    some_gradients,
    times,
)
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
def transposed_gradient(problem: Problem) -> Iterator[Intervention]:
    """The gradient of a square weight is transposed: its shape fits, so nothing complains."""
    square = [
        name
        for name, shape in problem.parameter_shapes.items()
        if len(shape) == 2 and shape[0] == shape[1] > 1
    ]
    for name in square:
        change = some_gradients({name: np.transpose})
        yield Intervention(f"transposes the gradient of {name}", on_gradients=change)


@formula
def sign(problem: Problem) -> Iterator[Intervention]:
    """Ascent for descent."""
    yield Intervention(ASCENDS, on_gradients=every_gradient(times(-1.0)))


ASCENDS = "ascends: its gradients have the wrong sign"


@formula
def accumulated(problem: Problem) -> Iterator[Intervention]:
    """The sum of the accumulated gradients for their mean: the loss was not divided by k."""
    if problem.accumulation > 1:
        yield Intervention(
            "sums the accumulated gradients instead of averaging them",
            on_gradients=every_gradient(times(problem.accumulation)),
        )


@formula
def ratio(problem: Problem) -> Iterator[Intervention]:
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
            for verb, factor in (("multiplies", float(count)), ("divides", 1 / count)):
                yield Intervention(
                    f"{verb} its gradients by {count}, as many as {what}",
                    on_gradients=every_gradient(times(factor)),
                )


def stale(evidence: Evidence) -> Iterator[Intervention]:
    """The update comes before the backward pass."""
    yield Intervention(
        "applies the gradients of the step before",
        on_gradients=lambda grads, context: context.previous or grads,
    )


@formula
def untouched(problem: Problem) -> Iterator[Intervention]:
    """A parameter, or all of one kind, is unknown to the optimizer."""
    kinds: dict[str, set[str]] = {name: {name} for name in problem.parameter_shapes}
    for name in problem.parameter_shapes:  # all biases, all scales: what belongs to one kind of parameter
        kinds.setdefault(f"any /{name.rpartition('/')[2]}", set()).add(name)
    for what, names in kinds.items():
        if len(names) < len(problem.parameter_shapes) and not (what.startswith("any") and len(names) == 1):
            yield Intervention(f"never updates {what}", on_update=never_updated(names))


@formula
def single(problem: Problem) -> Iterator[Intervention]:
    """Something is rounded to float32 in a float64 run."""
    if problem.dtype != "float64":
        return
    single: Change = lambda value: value.astype(np.float32).astype(value.dtype)  # noqa: E731
    stored = each_parameter(single)
    yield Intervention("rounds its gradients to float32", on_gradients=every_gradient(single))
    yield Intervention(
        "keeps its parameters in float32", on_start=stored, on_update=lambda before, after: stored(after)
    )
    yield Intervention(
        "rounds its parameters to float32 after each update", on_update=lambda before, after: stored(after)
    )
    yield Intervention("rounds its inputs to float32", spec=problem.replace(x=single(problem.x)))
    data = problem.replace(x=single(problem.x), y=single(problem.y))
    yield Intervention("rounds its data to float32", spec=data)
    start = problem.replace(initial=each(problem.initial, single))
    yield Intervention("rounds its initial parameters to float32", spec=start)
    rate = float(np.float32(problem.optimizer.args["learning_rate"]))
    yield from with_args(problem, "rounds its learning rate to float32", learning_rate=rate)
