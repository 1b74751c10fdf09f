"""Problem: everything that fixes a training run, as one frozen, validated, framework-neutral value.

Its parts stand in `lockstep.backends.members` (layers, loss, optimizer, ...), `lockstep.backends.placed` (their names and shapes) and
`lockstep.backends.batches`. Import all of them from this module.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lockstep.backends.arrays import DTYPES, Array, Arrays
from lockstep.backends.batches import WHOLE, Batch, Batches, Batching, Mask
from lockstep.backends.errors import ProblemError
from lockstep.backends.members import (
    CONSTANT,
    UNAVERAGED,
    UNCLIPPED,
    Average,
    Clip,
    Layer,
    Loss,
    Member,
    Optimizer,
    Penalty,
    Schedule,
    check_kind,
    initial_slots,
)
from lockstep.backends.ops import FUNCTIONS, LOSSES, OPTIMIZERS, Buffer
from lockstep.backends.placed import Placed, place_layers, shapes_of, walk
from lockstep.backends.shapes import Shape

__all__ = [
    "CONSTANT",
    "DTYPES",
    "UNAVERAGED",
    "UNCLIPPED",
    "WHOLE",
    "Array",
    "Arrays",
    "Average",
    "Batch",
    "Batches",
    "Batching",
    "Clip",
    "Layer",
    "Loss",
    "Mask",
    "Member",
    "Optimizer",
    "Penalty",
    "Placed",
    "Problem",
    "Schedule",
    "initial_slots",
    "place_layers",
    "shapes_of",
    "walk",
]


@dataclass(frozen=True, eq=False)
class Problem:
    """One training run, fixed in every detail that a framework could otherwise choose.

    Data and initial parameters are kept in float64 and rounded once, to `dtype`, when they are handed out;
    hyperparameters stay float64 and each framework rounds them as it does for its users.

    Args:
        name: what reports call it.
        x: inputs, (n, features).
        y: targets, (n, outputs).
        model: the layers, applied in order.
        loss: of the model's output and y.
        optimizer: its name and hyperparameters.
        epochs: passes over the data.
        initial: parameters before the first step, by canonical name (``0.linear/w``).
        dtype: ``float64`` or ``float32``.
        batching: how the rows are dealt to steps; by default all at once.
        schedule: how the learning rate changes; by default constant.
        clip: what is done to the gradients before the optimizer sees them; by default nothing.
        penalties: what the parameters add to the loss, of every batch in full.
        accumulation: batches an update: their gradients are averaged, then clipped, and the optimizer and the
            schedule count updates. Batches left over at the run's end update nothing.
        average: what is kept of the parameters after each update; by default nothing.

    Raises:
        ProblemError: a part is missing, ill-typed, ill-shaped, empty or not finite.
    """

    name: str
    x: Array
    y: Array
    model: tuple[Layer, ...]
    loss: Loss
    optimizer: Optimizer
    epochs: int
    initial: Arrays
    dtype: str = "float64"
    batching: Batching = WHOLE
    schedule: Schedule = CONSTANT
    clip: Clip = UNCLIPPED
    penalties: tuple[Penalty, ...] = ()
    accumulation: int = 1
    average: Average = UNAVERAGED

    def __post_init__(self) -> None:
        set_field = functools.partial(object.__setattr__, self)
        set_field("penalties", tuple(self.penalties))
        _check_scalars(self)
        set_field("model", tuple(self.model))
        set_field("x", _frozen("x", self.x, self.dtype))
        set_field("y", _frozen("y", self.y, self.dtype))
        _check_rows(self.x, self.y)
        self.batching.check(len(self.x))
        _check_accumulation(self)
        _check_output(self)
        _check_ids(self)
        _check_statistics(self)
        _check_penalties(self)
        initial = {key: _frozen(f"initial {key!r}", self.initial[key], self.dtype) for key in self.initial}
        _check_initial(initial, self.parameter_shapes)
        _check_optimizer(self.optimizer, self.parameter_shapes)
        set_field("initial", MappingProxyType(dict(sorted(initial.items()))))

    @functools.cached_property
    def layers(self) -> tuple[Placed, ...]:
        """The model's layers, named and with their shapes."""
        return place_layers(self.model, self.x.shape[1:])

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shape of each parameter by canonical name, sorted."""
        return shapes_of(self.layers)

    @property
    def buffers(self) -> dict[str, Buffer]:
        """What training moves without a gradient, by canonical name, sorted."""
        buffers = {layer.leaf(key): one for layer in walk(self.layers) for key, one in layer.buffers.items()}
        return dict(sorted(buffers.items()))

    @property
    def has_modes(self) -> bool:
        """Whether the model does something else in evaluation than in training."""
        return any(layer.buffers or layer.masked for layer in walk(self.layers))

    @property
    def parts(self) -> tuple[Member, ...]:
        """Everything but the layers that a backend has in a table."""
        return (self.loss, self.optimizer, self.schedule, self.clip, self.average, *self.penalties)

    @property
    def steps(self) -> int:
        """Batches in the whole run."""
        return self.epochs * self.batching.steps(len(self.x))

    @property
    def landmarks(self) -> tuple[int, ...]:
        """Steps at which something changes on the way: both sides of an epoch's end and of each turn of the schedule."""
        every, per_epoch = self.accumulation, self.batching.steps(len(self.x))
        values = [value if isinstance(value, tuple) else (value,) for value in self.schedule.args.values()]
        turns = [
            one for value in values for one in value if isinstance(one, int) and not isinstance(one, bool)
        ]
        updates = [every * (update + 1) - 1 for turn in turns for update in (turn - 1, turn)]
        return (*((per_epoch - 1, per_epoch) if per_epoch > 1 else ()), *updates)

    def until(self, steps: int) -> Problem:
        """The same run, cut at the end of the epoch that holds the last of so many steps."""
        return self.replace(epochs=min(self.epochs, -(-steps // self.batching.steps(len(self.x)))))

    def penalised(self, penalty: Penalty) -> tuple[str, ...]:
        """The parameters that a penalty is of, by canonical name, sorted."""
        smallest = 2 if penalty.args["parameters"] == "weights" else 0
        return tuple(name for name, shape in self.parameter_shapes.items() if len(shape) >= smallest)

    def batches(self) -> Batches:
        """The batches of the whole run, rounded to the dtype; fresh arrays on every call."""
        x, y = self.x.astype(self.dtype), self.y.astype(self.dtype)
        return Batches(x, y, self.epochs, self.batching, tuple(_masks(self.layers)))

    def initial_parameters(self) -> dict[str, Array]:
        """Initial parameters rounded to the dtype; fresh arrays on every call."""
        return {key: value.astype(self.dtype) for key, value in self.initial.items()}

    def initial_buffers(self) -> dict[str, Array]:
        """Buffers before the first step; fresh arrays on every call."""
        return {key: np.full(one.shape, one.start, self.dtype) for key, one in self.buffers.items()}

    def replace(self, **changes: Any) -> Problem:
        """A copy with some fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields["initial"] = dict(self.initial)
        return functools.partial(Problem, **fields), ()


def _check_scalars(problem: Problem) -> None:
    if not isinstance(problem.name, str) or not problem.name.strip():
        raise ProblemError("name must say something", repr(problem.name), "give a non-empty string")
    if problem.dtype not in DTYPES:
        raise ProblemError("dtype is not offered", repr(problem.dtype), f"use one of {', '.join(DTYPES)}")
    epochs: object = problem.epochs
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ProblemError("epochs must be a positive integer", repr(epochs), "use 1 or more")
    members = (*problem.model, *problem.parts)
    after = (Loss, Optimizer, Schedule, Clip, Average, *(Penalty for _ in problem.penalties))
    kinds = (*(Layer for _ in problem.model), *after)
    for member, kind in zip(members, kinds, strict=True):
        check_kind(member, kind)
    if not problem.model:
        raise ProblemError("the model has no layers", "an empty chain", "give at least one layer")


def _frozen(what: str, values: object, dtype: str) -> Array:
    """A read-only float64 copy that is numeric, non-empty, finite, and finite once rounded to `dtype`."""
    array = _float64(what, values)
    if array.size == 0:
        raise ProblemError(f"{what} is empty", f"shape {array.shape}", "give at least one value")
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype)
    if not np.isfinite(rounded).all():
        where = tuple(map(int, np.argwhere(~np.isfinite(rounded))[0]))
        raise ProblemError(
            f"{what} is not finite in {dtype}",
            f"{array[where]} at index {where}",
            "remove or impute the value, or scale the data to the dtype's range",
        )
    array.flags.writeable = False
    return array


def _float64(what: str, values: object) -> Array:
    try:
        array = np.array(values)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"values of dtype {array.dtype}")
        return array.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ProblemError(
            f"{what} is not a rectangular array of real numbers",
            str(error),
            "give numbers, rows equally long",
        ) from error


def _check_rows(x: Array, y: Array) -> None:
    # (n,) next to (n, 1) would broadcast to (n, n) in some frameworks and raise in others, so both are refused.
    for name, array in (("x", x), ("y", y)):
        if array.ndim < 2:
            raise ProblemError(
                f"{name} must have a row for each example and at least one column",
                f"shape {array.shape}",
                f"reshape it, for one column: {name}[:, None]",
            )
    if len(x) != len(y):
        raise ProblemError(
            "x and y differ in length",
            f"{len(x)} rows of x, {len(y)} of y",
            "give one row of y for each of x",
        )


def _masks(layers: Iterable[Placed]) -> Iterator[Mask]:
    """One for each dropout layer; layers of one seed draw differently by their place."""
    for place, layer in enumerate(walk(layers)):
        keep = FUNCTIONS[layer.op].keep
        if keep is not None:
            seed = int(layer.args["seed"])
            yield Mask(layer.name, (seed, place), keep(layer.args), layer.input_shape)


def _check_ids(problem: Problem) -> None:
    """A function of ids stands first, and x holds whole numbers that it knows."""
    for place, layer in enumerate(walk(problem.layers)):
        count = FUNCTIONS[layer.op].ids
        if count is None:
            continue
        if place:
            raise ProblemError(
                f"layer {layer.name!r} must stand first",
                f"place {place}",
                "it takes ids, not the output of a layer",
            )
        wrong = (problem.x != np.floor(problem.x)) | (problem.x < 0) | (problem.x >= count(layer.args))
        if wrong.any():
            where = tuple(map(int, np.argwhere(wrong)[0]))
            raise ProblemError(
                f"layer {layer.name!r} does not know an id of x",
                f"{problem.x[where]:g} at index {where}",
                f"give whole numbers from 0 to {count(layer.args) - 1}",
            )


def _check_statistics(problem: Problem) -> None:
    """One value has no variance: torch raises, others divide by zero."""
    batching, rows = problem.batching, len(problem.x)
    smallest = rows
    if batching.size is not None:
        smallest = rows % batching.size if batching.keep_last else 0
        smallest = smallest or batching.size
    for layer in walk(problem.layers):
        values = smallest * int(np.prod(layer.input_shape[:-1]))
        if FUNCTIONS[layer.op].over_batch and values < 2:
            raise ProblemError(
                f"layer {layer.name!r} needs at least two values a channel",
                f"a batch of {smallest} row, {values} value a channel",
                "give larger batches, or drop the last short one",
            )


def _check_output(problem: Problem) -> None:
    output, target = problem.layers[-1].output_shape, problem.y.shape[1:]
    wanted = LOSSES[problem.loss.name].prediction(target)
    if output != wanted:
        fault = "differ in shape" if wanted == target else f"do not fit loss {problem.loss.name!r}"
        raise ProblemError(
            f"the model's output and y {fault}",
            f"{output} and {target} for one example",
            f"change the last layer's size or the columns of y: to this y belongs an output {wanted}",
        )


def _check_accumulation(problem: Problem) -> None:
    batches: object = problem.accumulation
    if not isinstance(batches, int) or isinstance(batches, bool) or batches < 1:
        raise ProblemError(
            "accumulation is not valid", repr(batches), "give an int >= 1, the batches an update"
        )
    if batches > problem.steps:
        raise ProblemError(
            "accumulation is longer than the run, nothing would be updated",
            f"{batches} batches an update, {problem.steps} batches in all",
            "accumulate fewer, or train for more epochs",
        )


def _check_penalties(problem: Problem) -> None:
    for penalty in problem.penalties:
        if not problem.penalised(penalty):
            raise ProblemError(
                f"penalty {penalty.name!r} is of no parameter",
                ", ".join(f"{name} {shape}" for name, shape in problem.parameter_shapes.items()) or "none",
                "give parameters='all', or leave the penalty out",
            )


def _check_initial(initial: Arrays, shapes: Mapping[str, Shape]) -> None:
    if not shapes:
        raise ProblemError(
            "the model has no parameters", "nothing to train", "add a layer that has some, such as linear"
        )
    missing, unknown = sorted(shapes.keys() - initial.keys()), sorted(initial.keys() - shapes.keys())
    if missing or unknown:
        raise ProblemError(
            "the initial parameters are not those of the model",
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
            f"give {', '.join(f'{key} {shape}' for key, shape in shapes.items()) or 'none'}",
        )
    for key, shape in shapes.items():
        if initial[key].shape != shape:
            raise ProblemError(
                f"initial {key!r} has the wrong shape", f"{initial[key].shape}", f"give shape {shape}"
            )


def _check_optimizer(optimizer: Optimizer, shapes: Mapping[str, Shape]) -> None:
    for name, shape in shapes.items():
        if reason := OPTIMIZERS[optimizer.name].refuses_parameter(shape, optimizer.args):
            what = f"optimizer {optimizer.name!r} cannot train {name!r}"
            raise ProblemError(what, f"shape {shape}", reason)
