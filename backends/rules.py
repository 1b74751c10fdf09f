"""What a row of the tables states: its arguments with their ranges and defaults, its shapes, its conventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from lockstep.backends.errors import ProblemError, UnknownNameError, did_you_mean
from lockstep.backends.shapes import Shape

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
Args = Mapping[str, Any]
"""Checked arguments by name; which type each has is said by its `Argument`."""


@dataclass(frozen=True)
class Argument:
    """One argument of a member: its type, its default and the values it may take.

    Attributes:
        kind: the Python type; an int is accepted where a float is asked for.
        doc: what it means, in one line.
        default: None for an argument that must be given.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        choices: the words that a str argument may be.
        many: whether it is a list of such values, one at least; it is kept as a tuple.
    """

    kind: type[bool] | type[int] | type[float] | type[str]
    doc: str
    default: Value | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    many: bool = False

    def check(self, where: str, value: object) -> Value:
        """The value, converted to `kind`, or a ProblemError that names the field `where`."""
        if not self.many:
            return self._check_one(where, value)
        if not isinstance(value, (list, tuple)) or not value:
            raise ProblemError(
                f"{where} is not a list of values",
                f"{value!r} ({type(value).__name__})",
                f"give {self.describe()}",
            )
        return tuple(self._check_one(f"{where}[{index}]", one) for index, one in enumerate(value))

    def _check_one(self, where: str, value: object) -> Scalar:
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.kind) or (self.kind is not bool and isinstance(value, bool)):
            raise ProblemError(
                f"{where} has the wrong type",
                f"{value!r} ({type(value).__name__})",
                f"give {self.describe()}",
            )
        if not self._in_range(value):
            raise ProblemError(f"{where} is out of range", repr(value), f"give {self.describe()}")
        return value

    def _in_range(self, value: Scalar) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
        )

    def describe(self) -> str:
        """The values it may take, as words: ``a float > 0``; of a list: ``one or more of int >= 1``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">", self.above), (">=", self.at_least), ("<", self.below))
            if bound is not None
        ]
        article = "one or more of" if self.many else "an" if self.kind is int else "a"
        return " ".join([article, self.kind.__name__, " and ".join(bounds)]).rstrip()


def _same_shape(shape: Shape, args: Args) -> Shape:
    return shape


def _no_parameters(shape: Shape, args: Args) -> dict[str, Shape]:
    return {}


def _any_shape(shape: Shape, args: Args) -> str | None:
    return None


class Buffer(NamedTuple):
    """A state that training moves without a gradient: its shape and its value before the first step."""

    shape: Shape
    start: float


def _no_buffers(shape: Shape, args: Args) -> dict[str, Buffer]:
    return {}


@dataclass(frozen=True)
class Rule:
    """A row of a table: what is true of one member, whichever framework computes it.

    Attributes:
        doc: the formula and the convention.
        arguments: what may be said about it in a problem.
        presets: framework -> the default arguments of that framework's own member, where they are not ours. A
            framework that has no such member has no preset.
        conventions: where the frameworks differ in a way that no argument reaches, in words.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    presets: Mapping[str, Args] = field(default_factory=dict, kw_only=True)
    conventions: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Op(Rule):
    """A function of the model. Shapes are those of one example: without the leading batch axis.

    Attributes:
        parameters: (input shape, arguments) -> shape of each parameter, in the canonical layout.
        output: (input shape, arguments) -> output shape.
        refuses: (input shape, arguments) -> why this input cannot be taken, or None.
        ones: the parameters that are drawn as ones (scales), not zeros or normal.
        buffers: (input shape, arguments) -> what training moves without a gradient.
        over_batch: whether training takes statistics over the batch, which then needs two values a channel.
        keep: arguments -> probability that an element survives training; None for a function without a mask.
        ids: arguments -> number of ids; such a function takes whole numbers below it and stands first.
        join: (input shape, shapes of the branches' outputs) -> output shape, or None where they do not go
            together; given for functions of branches, which are chains of layers over the same input.
    """

    parameters: Callable[[Shape, Args], dict[str, Shape]] = _no_parameters
    output: Callable[[Shape, Args], Shape] = _same_shape
    refuses: Callable[[Shape, Args], str | None] = _any_shape
    ones: frozenset[str] = frozenset()
    buffers: Callable[[Shape, Args], dict[str, Buffer]] = _no_buffers
    over_batch: bool = False
    keep: Callable[[Args], float] | None = None
    ids: Callable[[Args], int] | None = None
    join: Callable[[Shape, Sequence[Shape]], Shape | None] | None = None


@dataclass(frozen=True)
class LossRule(Rule):
    """A loss of prediction and target, both (n, ...).

    Attributes:
        prediction: target shape -> prediction shape, both of one example.
    """

    prediction: Callable[[Shape], Shape] = lambda target: target


@dataclass(frozen=True)
class Slot:
    """One array that an optimizer keeps for a parameter between steps.

    Attributes:
        initial: every element before the first step.
        shape: the parameter's shape -> the array's, or None where such a parameter has none.
    """

    initial: float = 0.0
    shape: Callable[[Shape], Shape | None] = lambda shape: shape


@dataclass(frozen=True)
class OptimizerRule(Rule):
    """An optimizer: its update, its arguments and the state that it carries.

    Its hyperparameters stay float64 and each framework rounds them as it does for its users.

    Attributes:
        state: arguments -> what it keeps per parameter between steps; ``momentum`` of ``0.linear/w`` is the
            array ``momentum/0.linear/w`` of a snapshot.
        refuses: arguments -> why they do not go together, or None.
        refuses_parameter: (shape, arguments) -> why a parameter of that shape cannot be trained, or None.
    """

    state: Callable[[Args], Mapping[str, Slot]] = lambda args: {}
    refuses: Callable[[Args], str | None] = lambda args: None
    refuses_parameter: Callable[[Shape, Args], str | None] = _any_shape


@dataclass(frozen=True)
class ScheduleRule(Rule):
    """A schedule: what the learning rate η is multiplied with at update t = 0, 1, 2, ..."""

    refuses: Callable[[Args], str | None] = lambda args: None


@dataclass(frozen=True)
class ClipRule(Rule):
    """What is done to the gradients of all parameters before the optimizer sees them."""


@dataclass(frozen=True)
class PenaltyRule(Rule):
    """What the parameters themselves add to the loss."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True)
class AverageRule(Rule):
    """What is kept of the parameters' past, next to training, to be used in their place afterwards."""


def checked_name(kind: str, name: object, table: Mapping[str, object]) -> str:
    """The name, if the table has it.

    Raises:
        ProblemError: it is not a string.
        UnknownNameError: the table has no such member; the message says the closest.
    """
    if not isinstance(name, str):
        raise ProblemError(f"the name of the {kind} has the wrong type", repr(name), "give a string")
    if name not in table:
        hint = did_you_mean(name, table)
        raise UnknownNameError(f"unknown {kind}", repr(name), f"{hint}known: {', '.join(table)}")
    return name


def preset_args(where: str, preset: str | None, presets: Mapping[str, Args]) -> Args:
    """The arguments of a preset; none where none is asked for.

    Raises:
        ProblemError: there is no such preset; the message lists those that exist.
    """
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in presets:
        fix = f"use {' or '.join(map(repr, presets))}, or none" if presets else "give its arguments"
        raise ProblemError(f"{where} has no such preset", repr(preset), fix)
    return presets[preset]


def checked_args(
    where: str, args: Mapping[str, object], arguments: Mapping[str, Argument]
) -> Mapping[str, Value]:
    """All arguments of a member, checked, with the defaults filled in, read-only.

    Raises:
        ProblemError: an argument is unknown, missing, of the wrong type or out of range.
    """
    if unknown := sorted(set(args) - set(arguments)):
        raise ProblemError(
            f"{where} does not take {', '.join(map(repr, unknown))}",
            repr(dict(args)),
            f"it takes: {', '.join(arguments) or 'no arguments'}",
        )
    checked: dict[str, Value] = {}
    for name, argument in arguments.items():
        value = args.get(name, argument.default)
        if value is None:
            raise ProblemError(
                f"{where} lacks {name!r} ({argument.doc})", repr(dict(args)), f"give {argument.describe()}"
            )
        checked[name] = argument.check(f"{where}: {name}", value)
    return MappingProxyType(checked)
