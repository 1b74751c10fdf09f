"""Problem: everything that fixes a training run, as one frozen, validated, framework-neutral value."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.backends.errors import ProblemError
from lockstep.backends.ops import (
    AVERAGES,
    CLIPS,
    FUNCTIONS,
    LOSSES,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    Args,
    Buffer,
    Op,
    Rule,
    Slot,
    checked_args,
    checked_name,
    preset_args,
)
from lockstep.backends.shapes import Shape

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
    table: ClassVar[Mapping[str, Rule]]

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
    """A function of the model: ``Layer("linear", size=1)``.

    A function of branches takes them as chains of layers: ``Layer("residual", branches=[[Layer("tanh")]])``.
    """

    kind, table = "layer", FUNCTIONS

    def __init__(
        self,
        name: str,
        /,
        *,
        branches: Iterable[Iterable[Layer]] = (),
        preset: str | None = None,
        **args: object,
    ) -> None:
        super().__init__(name, preset=preset, **args)
        self.branches = tuple(map(tuple, branches))
        if (FUNCTIONS[name].join is None) == bool(self.branches):
            wanted = (
                "give it none" if self.branches else "give branches=[[Layer(...), ...], ...], one or more"
            )
            raise ProblemError(f"layer {name!r}: branches", f"{len(self.branches)} branches", wanted)
        for layer in itertools.chain(*self.branches):
            _check_kind(layer, Layer)

    def __repr__(self) -> str:
        if not self.branches:
            return super().__repr__()
        return f"{super().__repr__()[:-1]}, branches={self.branches!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Layer, self.name, branches=self.branches, **self.args), ()


def _check_kind(part: object, kind: type[Member]) -> None:
    if not isinstance(part, kind):
        raise ProblemError(
            f"the {kind.kind} has the wrong type",
            f"{part!r} ({type(part).__name__})",
            f"build it with {kind.__name__}(name, ...)",
        )


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


class Penalty(Member):
    """What the parameters add to the loss: ``Penalty("l1", weight=0.1)``."""

    kind, table = "penalty", PENALTIES


class Average(Member):
    """What is kept of the parameters' past: ``Average("ema", decay=0.99)``."""

    kind, table = "average", AVERAGES

    def reported(self, kept: Arrays, updates: int) -> dict[str, Array]:
        """What stands for the parameters after so many updates: `kept`, debiased (in double) where that is asked."""
        if not self.args.get("debias") or not updates:
            return dict(kept)
        factor = 1 - float(self.args["decay"]) ** updates
        return {name: value / factor for name, value in kept.items()}


CONSTANT = Schedule("constant")
UNCLIPPED = Clip("none")
UNAVERAGED = Average("none")


class Placed(NamedTuple):
    """A layer at its place in the model: its canonical name and its shapes, one example each."""

    name: str
    op: str
    args: Args
    input_shape: Shape
    output_shape: Shape
    parameters: Mapping[str, Shape]
    buffers: Mapping[str, Buffer]
    branches: tuple[tuple[Placed, ...], ...] = ()

    def leaf(self, parameter: str) -> str:
        """The canonical name of one of its parameters or buffers: ``0.linear/w``."""
        return f"{self.name}/{parameter}"

    @property
    def masked(self) -> bool:
        """Whether training multiplies its input by a mask."""
        return FUNCTIONS[self.op].keep is not None


def walk(layers: Iterable[Placed]) -> Iterator[Placed]:
    """All layers in order, those of branches after the one that holds them."""
    for layer in layers:
        yield layer
        for branch in layer.branches:
            yield from walk(branch)


class Mask(NamedTuple):
    """What dropout multiplies with: drawn in NumPy for each epoch, so that all backends share it.

    Attributes:
        layer: canonical name of the layer.
        seed: what the draws depend on beside the epoch.
        keep: probability that an element survives.
        shape: of one example.
    """

    layer: str
    seed: tuple[int, ...]
    keep: float
    shape: Shape

    def draw(self, epoch: int, rows: int, dtype: np.dtype[Any]) -> Array:
        """(rows, ...): 0 with probability 1 − keep, else 1/keep."""
        kept = np.random.default_rng([*self.seed, epoch]).random((rows, *self.shape)) < self.keep
        mask: Array = kept.astype(dtype) / dtype.type(self.keep)
        return mask


class Batch(NamedTuple):
    """What one training step sees.

    Attributes:
        x: (n, ...), in the problem's dtype.
        y: (n, ...), likewise.
        masks: what each dropout layer multiplies with, (n, ...), by the layer's canonical name.
    """

    x: Array
    y: Array
    masks: Arrays = MappingProxyType({})

    def stages(self) -> dict[str, Array]:
        """It as stages: ``batch/x``, ``batch/y`` and ``batch/mask/<layer>``."""
        masks = {f"batch/mask/{layer}": mask for layer, mask in self.masks.items()}
        return {"batch/x": self.x, "batch/y": self.y, **masks}


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
    dropped: tuple[Mask, ...] = ()

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.batching.steps(len(self.x))

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    def __iter__(self) -> Iterator[Batch]:
        size = self.batching.size
        for epoch in range(self.epochs):
            masks = self.masks(epoch)
            if size is None:
                yield Batch(self.x, self.y, masks)
                continue
            order = self.order(epoch)
            for start in range(0, len(order), size):
                part = slice(start, start + size)
                rows = order[part]
                yield Batch(self.x[rows], self.y[rows], {layer: mask[part] for layer, mask in masks.items()})

    def order(self, epoch: int) -> Array:
        """The rows that an epoch sees, in order."""
        return self.batching.order(len(self.x), epoch)

    def masks(self, epoch: int) -> dict[str, Array]:
        """The masks of an epoch by layer, (rows that it sees, ...), in that order."""
        rows = len(self.x)
        if self.batching.size is not None and not self.batching.keep_last:
            rows = self.per_epoch * self.batching.size
        return {mask.layer: mask.draw(epoch, rows, self.x.dtype) for mask in self.dropped}


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
    def buffers(self) -> dict[str, Buffer]:
        """What training moves without a gradient, by canonical name, sorted."""
        found = {layer.leaf(key): one for layer in walk(self.layers) for key, one in layer.buffers.items()}
        return dict(sorted(found.items()))

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
    parts = (*problem.model, *problem.parts)
    after = (Loss, Optimizer, Schedule, Clip, Average, *(Penalty for _ in problem.penalties))
    kinds = (*(Layer for _ in problem.model), *after)
    for part, kind in zip(parts, kinds, strict=True):
        _check_kind(part, kind)
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


def place_layers(model: Iterable[Layer], shape: Shape, prefix: str = "") -> tuple[Placed, ...]:
    """The layers of a model over inputs of `shape` (one example), named and with their shapes.

    Raises:
        ProblemError: a layer cannot take its input.
    """
    placed = []
    for index, layer in enumerate(model):
        placed.append(_place(f"{prefix}{index}.{layer.name}", layer, shape))
        shape = placed[-1].output_shape
    return tuple(placed)


def shapes_of(layers: Iterable[Placed]) -> dict[str, Shape]:
    """Shape of each parameter by canonical name, sorted."""
    shapes = {layer.leaf(key): shape for layer in walk(layers) for key, shape in layer.parameters.items()}
    return dict(sorted(shapes.items()))


def _place(name: str, layer: Layer, shape: Shape) -> Placed:
    op = FUNCTIONS[layer.name]
    if reason := op.refuses(shape, layer.args):
        raise ProblemError(f"layer {name!r} cannot take its input", f"shape {shape}", reason)
    branches = tuple(
        place_layers(branch, shape, f"{name}/{index}/") for index, branch in enumerate(layer.branches)
    )
    return Placed(
        name,
        layer.name,
        layer.args,
        shape,
        _output_shape(name, op, layer, shape, branches),
        MappingProxyType(op.parameters(shape, layer.args)),
        MappingProxyType(op.buffers(shape, layer.args)),
        branches,
    )


def _output_shape(
    name: str, op: Op, layer: Layer, shape: Shape, branches: tuple[tuple[Placed, ...], ...]
) -> Shape:
    if op.join is None:
        return op.output(shape, layer.args)
    outputs = [branch[-1].output_shape if branch else shape for branch in branches]
    output = op.join(shape, outputs)
    if output is None:
        raise ProblemError(
            f"the branches of layer {name!r} do not go together",
            f"outputs {', '.join(map(str, outputs))} of an input {shape}",
            f"change their sizes: {op.doc}",
        )
    return output


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
    given: object = problem.accumulation
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ProblemError(
            "accumulation is not valid", repr(given), "give an int >= 1, the batches an update"
        )
    if given > problem.steps:
        raise ProblemError(
            "accumulation is longer than the run, nothing would be updated",
            f"{given} batches an update, {problem.steps} batches in all",
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
