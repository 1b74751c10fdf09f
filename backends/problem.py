"""Problem: everything that fixes a training run, as one frozen, validated, framework-neutral value."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from backends.errors import ProblemError
from backends.ops import (
    CLIPS,
    FUNCTIONS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    Args,
    ClipRule,
    LossRule,
    Op,
    OptimizerRule,
    ScheduleRule,
    Shape,
    Slot,
    checked_args,
    checked_name,
    preset_args,
)

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

DTYPES = ("float64", "float32")


class Member:
    """A named member of a registry with its arguments, checked and completed by defaults.

    Args:
        name: of the member.
        preset: a framework whose default arguments come before ours; what is given comes before both.
        args: the arguments.

    Raises:
        LockstepError: the name or the preset is unknown, or an argument is not valid.
    """

    kind: ClassVar[str]
    table: ClassVar[
        Mapping[str, Op]
        | Mapping[str, LossRule]
        | Mapping[str, OptimizerRule]
        | Mapping[str, ScheduleRule]
        | Mapping[str, ClipRule]
    ]

    def __init__(self, name: str, /, *, preset: str | None = None, **args: object) -> None:
        self.name = checked_name(self.kind, name, self.table)
        where, rule = f"{self.kind} {name!r}", self.table[name]
        given = {**preset_args(where, preset, rule.presets), **args}
        self.args: Args = checked_args(where, given, rule.arguments)

    def __repr__(self) -> str:
        args = "".join(f", {key}={value!r}" for key, value in self.args.items())
        return f"{type(self).__name__}({self.name!r}{args})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), self.name, **self.args), ()


class Layer(Member):
    """A function of the model: ``Layer("linear", size=1)``."""

    kind, table = "layer", FUNCTIONS


class Loss(Member):
    """The loss: ``Loss("squared_error", reduction="sum")``."""

    kind, table = "loss", LOSSES


class Optimizer(Member):
    """The optimizer: ``Optimizer("sgd", learning_rate=1e-2)``, ``Optimizer("adam", preset="torch")``."""

    kind, table = "optimizer", OPTIMIZERS

    def __init__(self, name: str, /, *, preset: str | None = None, **args: object) -> None:
        super().__init__(name, preset=preset, **args)
        _refuse(self, OPTIMIZERS[name].refuses(self.args))

    @property
    def state(self) -> Mapping[str, Slot]:
        """What it keeps for each parameter between steps."""
        return OPTIMIZERS[self.name].state(self.args)

    def initial_state(self, parameters: Arrays) -> dict[str, Array]:
        """Its state before the first step, ``<slot>/<parameter>``, sorted; in the parameters' dtype."""
        return initial_slots(self.state, parameters)


def initial_slots(state: Mapping[str, Slot], parameters: Arrays) -> dict[str, Array]:
    """The arrays of an optimizer's state before the first step, ``<slot>/<parameter>``, sorted."""
    shapes = {
        (slot, name): one.shape(value.shape)
        for slot, one in state.items()
        for name, value in parameters.items()
    }
    return {
        f"{slot}/{name}": np.full(shape, state[slot].initial, parameters[name].dtype)
        for (slot, name), shape in sorted(shapes.items())
        if shape is not None
    }


class Schedule(Member):
    """The learning rate's course: ``Schedule("step", steps=30, factor=0.1)``."""

    kind, table = "schedule", SCHEDULES

    def __init__(self, name: str, /, *, preset: str | None = None, **args: object) -> None:
        super().__init__(name, preset=preset, **args)
        _refuse(self, SCHEDULES[name].refuses(self.args))


def _refuse(member: Member, reason: str | None) -> None:
    if reason:
        what = f"the arguments of {member.kind} {member.name!r} do not go together"
        raise ProblemError(what, repr(member), reason)


class Clip(Member):
    """What is done to the gradients before the optimizer: ``Clip("norm", limit=1.0)``."""

    kind, table = "clip", CLIPS


CONSTANT = Schedule("constant")
UNCLIPPED = Clip("none")


class Placed(NamedTuple):
    """A layer at its place in the model: its canonical name and its shapes, one example each."""

    name: str
    op: str
    args: Args
    input_shape: Shape
    output_shape: Shape
    parameters: Mapping[str, Shape]

    def leaf(self, parameter: str) -> str:
        """The canonical name of one of its parameters: ``0.linear/w``."""
        return f"{self.name}/{parameter}"


class Batch(NamedTuple):
    """What one training step sees: x (n, ...) and y (n, ...) in the problem's dtype."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Batching:
    """How the rows are dealt to the steps of an epoch.

    Attributes:
        size: rows a batch; None for all of them at once.
        shuffle: seed of the order, a new one each epoch; None for the order of the data.
        keep_last: whether a last batch of fewer than `size` rows is trained on or dropped.
    """

    size: int | None = None
    shuffle: int | None = None
    keep_last: bool = True

    def check(self, rows: int) -> None:
        """Raise a ProblemError unless it deals `rows` rows to at least one step."""
        for name, value, low in (("size", self.size, 1), ("shuffle", self.shuffle, 0)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
                raise ProblemError(f"batching: {name} is not valid", repr(value), f"give an int >= {low}")
        if self.size is None and (self.shuffle is not None or not self.keep_last):
            raise ProblemError(
                "batching without a size has no order", repr(self), "give a size, or nothing else"
            )
        if self.size is not None and self.size > rows:
            raise ProblemError(
                "batching: size is larger than the data", f"{self.size} of {rows} rows", "give a smaller size"
            )

    def steps(self, rows: int) -> int:
        """How many batches an epoch has."""
        if self.size is None:
            return 1
        return -(-rows // self.size) if self.keep_last else rows // self.size

    def order(self, rows: int, epoch: int) -> Array:
        """The rows that an epoch sees, in order; drawn in NumPy, so that all backends share it."""
        order = np.arange(rows)
        if self.shuffle is not None:
            order = np.random.default_rng([self.shuffle, epoch]).permutation(rows)
        return order[: self.steps(rows) * (self.size or rows)]


WHOLE = Batching()
"""Every epoch sees all rows as one batch."""


@dataclass(frozen=True)
class Batches:
    """The batches of a whole run, step by step."""

    x: Array
    y: Array
    epochs: int
    batching: Batching = WHOLE

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.batching.steps(len(self.x))

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        size = self.batching.size
        for epoch in range(self.epochs):
            if size is None:
                yield Batch(self.x, self.y)
                continue
            order = self.order(epoch)
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                yield Batch(self.x[rows], self.y[rows])

    def order(self, epoch: int) -> Array:
        """The rows that an epoch sees, in order."""
        return self.batching.order(len(self.x), epoch)


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
        schedule: the course of the learning rate; by default constant.
        clip: what is done to the gradients before the optimizer sees them; by default nothing.

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

    def __post_init__(self) -> None:
        _check_scalars(self)
        set_field = functools.partial(object.__setattr__, self)
        set_field("model", tuple(self.model))
        set_field("x", _frozen("x", self.x, self.dtype))
        set_field("y", _frozen("y", self.y, self.dtype))
        _check_rows(self.x, self.y)
        self.batching.check(len(self.x))
        _check_output(self)
        given = {key: _frozen(f"initial {key!r}", self.initial[key], self.dtype) for key in self.initial}
        _check_initial(given, self.parameter_shapes)
        _check_optimizer(self.optimizer, self.parameter_shapes)
        set_field("initial", MappingProxyType(dict(sorted(given.items()))))

    @functools.cached_property
    def layers(self) -> tuple[Placed, ...]:
        """The model's layers, named and with their shapes."""
        return place_layers(self.model, self.x.shape[1:])

    @property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shape of each parameter by canonical name, sorted."""
        return shapes_of(self.layers)

    @property
    def steps(self) -> int:
        """Updates in the whole run."""
        return self.epochs * self.batching.steps(len(self.x))

    def batches(self) -> Batches:
        """The batches of the whole run, rounded to the dtype; fresh arrays on every call."""
        return Batches(self.x.astype(self.dtype), self.y.astype(self.dtype), self.epochs, self.batching)

    def initial_parameters(self) -> dict[str, Array]:
        """Initial parameters rounded to the dtype; fresh arrays on every call."""
        return {key: value.astype(self.dtype) for key, value in self.initial.items()}

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
    parts = (*problem.model, problem.loss, problem.optimizer, problem.schedule, problem.clip)
    kinds = (*(Layer for _ in problem.model), Loss, Optimizer, Schedule, Clip)
    for part, kind in zip(parts, kinds, strict=True):
        if not isinstance(part, kind):
            raise ProblemError(
                f"the {kind.kind} has the wrong type",
                f"{part!r} ({type(part).__name__})",
                f"build it with {kind.__name__}(name, ...)",
            )
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
    # (n,) beside (n, 1) would broadcast to (n, n) in some frameworks and raise in others, so both are refused.
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


def place_layers(model: Iterable[Layer], shape: Shape) -> tuple[Placed, ...]:
    """The layers of a model over inputs of `shape` (one example), named and with their shapes.

    Raises:
        ProblemError: a layer cannot take its input.
    """
    placed = []
    for index, layer in enumerate(model):
        placed.append(_place(index, layer, shape))
        shape = placed[-1].output_shape
    return tuple(placed)


def shapes_of(layers: Iterable[Placed]) -> dict[str, Shape]:
    """Shape of each parameter by canonical name, sorted."""
    shapes = {layer.leaf(key): shape for layer in layers for key, shape in layer.parameters.items()}
    return dict(sorted(shapes.items()))


def _place(index: int, layer: Layer, shape: Shape) -> Placed:
    name = f"{index}.{layer.name}"
    op = FUNCTIONS[layer.name]
    if reason := op.refuses(shape, layer.args):
        raise ProblemError(f"layer {name!r} cannot take its input", f"shape {shape}", reason)
    return Placed(
        name,
        layer.name,
        layer.args,
        shape,
        op.output(shape, layer.args),
        MappingProxyType(op.parameters(shape, layer.args)),
    )


def _check_output(problem: Problem) -> None:
    output = problem.layers[-1].output_shape
    if output != problem.y.shape[1:]:
        raise ProblemError(
            "the model's output and y differ in shape",
            f"{output} and {problem.y.shape[1:]} for one example",
            "change the last layer's size or the columns of y",
        )


def _check_initial(initial: Arrays, shapes: Mapping[str, Shape]) -> None:
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
