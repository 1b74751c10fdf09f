"""Problems of other sizes: the same task with more rows, features, parameters or epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.errors import LockstepError, ProblemError, did_you_mean
from lockstep.backends.ops import FUNCTIONS
from lockstep.backends.problem import Layer, Optimizer, Problem
from lockstep.harness.benchmark import memory, units
from lockstep.harness.problems.initial import draw

MOST = 10**9


@dataclass(frozen=True)
class Sized:
    """A problem at one size.

    Attributes:
        problem: what is trained.
        axis: which size the sweep that it belongs to changes; empty where there is no sweep.
    """

    problem: Problem
    axis: str = ""

    @property
    def size(self) -> dict[str, int]:
        """Rows, features (numbers of x an example has), parameters, epochs, steps."""
        return {name: count(self.problem) for name, count in COUNTS.items()}


COUNTS: Mapping[str, Callable[[Problem], int]] = {
    "rows": lambda problem: len(problem.x),
    "features": lambda problem: math.prod(problem.x.shape[1:]),
    "parameters": lambda problem: sum(math.prod(shape) for shape in problem.parameter_shapes.values()),
    "epochs": lambda problem: problem.epochs,
    "steps": lambda problem: problem.steps,
}


def parse(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """``rows=1e4,1e5`` as {"rows": (10000, 100000)}.

    Raises:
        LockstepError: the name of a size is not known or repeated, or a number is not a positive whole one.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        axis, _, numbers = text.partition("=")
        if axis not in AXES:
            hint = did_you_mean(axis, AXES)
            raise LockstepError(
                "unknown size", repr(text), f"{hint}write one of {', '.join(AXES)}, as rows=1e4,1e5"
            )
        if axis in sizes:
            raise LockstepError("a size is given twice", repr(text), f"write {axis}=N,N,... once")
        sizes[axis] = tuple(dict.fromkeys(_whole(text, one) for one in numbers.split(",")))
    return sizes


def _whole(text: str, number: str) -> int:
    try:
        value = float(number)
        if value == int(value) and 1 <= value <= MOST:
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise LockstepError(
        "a size is not a positive whole number",
        f"{number!r} in {text!r}",
        "write it as 1000 or 1e3, a billion at most",
    )


def sweep(problem: Problem, sizes: Mapping[str, Sequence[int]]) -> list[Sized]:
    """The problem at every size: a size with one value is set throughout, one with several values is swept, the others stay.

    Raises:
        ProblemError: the problem has no such size.
    """
    for axis, values in sizes.items():
        if len(values) == 1:
            problem = AXES[axis](problem, values[0])
    swept = [
        Sized(AXES[axis](problem, value), axis)
        for axis, values in sizes.items()
        if len(values) > 1
        for value in values
    ]
    return swept or [Sized(problem)]


def with_rows(problem: Problem, rows: int) -> Problem:
    """The rows in turn, again and again. A loss that sums over rows gets a learning rate smaller by as much."""
    _check_memory(problem, rows * (problem.x[0].size + problem.y[0].size))
    taken = np.arange(rows) % len(problem.x)
    factor = len(problem.x) / rows if problem.loss.args.get("reduction") == "sum" else 1.0
    batching = problem.batching
    if batching.size is not None:
        batching = dataclasses.replace(batching, size=min(batching.size, rows))
        factor = 1.0  # a batch sums over no more rows than before
    return problem.replace(
        x=problem.x[taken],
        y=problem.y[taken],
        batching=batching,
        optimizer=_slowed(problem.optimizer, factor),
    )


def _slowed(optimizer: Optimizer, factor: float) -> Optimizer:
    if factor == 1.0:
        return optimizer
    return Optimizer(
        optimizer.name, **{**optimizer.args, "learning_rate": optimizer.args["learning_rate"] * factor}
    )


def with_features(problem: Problem, features: int) -> Problem:
    """The columns in turn, scaled so that the curvature stays; initial parameters are drawn anew."""
    if problem.x.ndim != 2 or FUNCTIONS[problem.model[0].name].ids is not None:
        raise ProblemError(
            f"problem {problem.name!r} has no features that could be more",
            f"x of shape {problem.x.shape} for {problem.model[0].name!r}",
            "give rows=..., or a problem whose x are rows of numbers",
        )
    _check_memory(problem, features * len(problem.x))
    columns = np.arange(features) % problem.x.shape[1]
    x = problem.x[:, columns] * math.sqrt(problem.x.shape[1] / features)
    return problem.replace(x=x, initial=draw(problem.model, x.shape[1:], seed=0))


def with_parameters(problem: Problem, parameters: int) -> Problem:
    """Hidden layers of the least equal width that gives so many parameters; these are drawn anew."""
    _check_memory(problem, parameters)
    unit = math.lcm(*_heads(problem.model))
    low, high = 1, 1
    while COUNTS["parameters"](_widened(problem, unit * high)) < parameters:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if COUNTS["parameters"](_widened(problem, unit * middle)) < parameters:
            low = middle + 1
        else:
            high = middle
    return _widened(problem, unit * high)


def _widened(problem: Problem, width: int) -> Problem:
    """Every layer that has a size, within branches too, but the last such of the chain, in that size."""
    sized = [place for place, layer in enumerate(problem.model) if _has_size(layer)][:-1]
    if not sized:
        raise ProblemError(
            f"problem {problem.name!r} has no hidden layer that could be wider",
            ", ".join(layer.name for layer in problem.model),
            "give features=..., or a problem with hidden layers",
        )
    model = tuple(
        _wide(layer, width) if place in sized else layer for place, layer in enumerate(problem.model)
    )
    try:
        return problem.replace(model=model, initial=draw(model, problem.x.shape[1:], seed=0))
    except ProblemError as error:
        raise ProblemError(
            f"problem {problem.name!r} has hidden layers that cannot all be {width} wide: {error.what}",
            error.got,
            "give rows=..., features=... or epochs=..., or another problem",
        ) from error


def _has_size(layer: Layer) -> bool:
    return "size" in layer.args or any(_has_size(one) for branch in layer.branches for one in branch)


def _wide(layer: Layer, width: int) -> Layer:
    args = {**layer.args, "size": width} if "size" in layer.args else layer.args
    branches = [[_wide(one, width) for one in branch] for branch in layer.branches]
    return Layer(layer.name, branches=branches, **args) if branches else Layer(layer.name, **args)


def _heads(layers: Iterable[Layer]) -> Iterator[int]:
    """The numbers that a width must be a multiple of."""
    for layer in layers:
        yield layer.args.get("heads", 1)
        for branch in layer.branches:
            yield from _heads(branch)


def _check_memory(problem: Problem, numbers: int) -> None:
    """Refuses a problem that does not fit into memory in float64, twice: here and in the process that trains it."""
    size, most = 2 * 8 * numbers, memory.physical()
    if most is not None and size > most:
        raise ProblemError(
            f"problem {problem.name!r} of that size does not fit into memory",
            f"{units.size(size)} at least, of {units.size(most)}",
            "give a smaller size",
        )


def with_epochs(problem: Problem, epochs: int) -> Problem:
    """So many passes over the data."""
    return problem.replace(epochs=epochs)


AXES: Mapping[str, Callable[[Problem, int], Problem]] = {
    "rows": with_rows,
    "features": with_features,
    "parameters": with_parameters,
    "epochs": with_epochs,
}
"""Size -> what gives a problem of that size."""
