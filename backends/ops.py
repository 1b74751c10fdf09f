"""The functions, losses and optimizers as data: what they are called, what they take, what shapes they make.

Every backend implements the same members; here stands, once, what is true of a member whichever framework
computes it: its arguments with their ranges, its parameters' shapes, its conventions. A `Problem` is checked
against these tables, the JSON Schema of the problem file is made from them, and the tests are parametrised
over them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from backends.errors import ProblemError, UnknownNameError

Shape = tuple[int, ...]
Value = bool | int | float | str
Args = Mapping[str, Value]


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
    """

    kind: type[bool] | type[int] | type[float] | type[str]
    doc: str
    default: Value | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, where: str, value: object) -> Value:
        """The value, converted to `kind`, or a ProblemError that names the field `where`."""
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

    def _in_range(self, value: Value) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
        )

    def describe(self) -> str:
        """The values it may take, as words: ``a float > 0``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">", self.above), (">=", self.at_least), ("<", self.below))
            if bound is not None
        ]
        article = "an" if self.kind is int else "a"
        return " ".join([article, self.kind.__name__, " and ".join(bounds)]).rstrip()


def _same_shape(shape: Shape, args: Args) -> Shape:
    return shape


def _no_parameters(shape: Shape, args: Args) -> dict[str, Shape]:
    return {}


def _any_shape(shape: Shape, args: Args) -> str | None:
    return None


@dataclass(frozen=True)
class Op:
    """A function of the model. Shapes are those of one example: without the leading batch axis.

    Attributes:
        doc: the formula and the convention.
        arguments: what may be said about it in a problem.
        parameters: (input shape, arguments) -> shape of each parameter, in the canonical layout.
        output: (input shape, arguments) -> output shape.
        refuses: (input shape, arguments) -> why this input cannot be taken, or None.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    parameters: Callable[[Shape, Args], dict[str, Shape]] = _no_parameters
    output: Callable[[Shape, Args], Shape] = _same_shape
    refuses: Callable[[Shape, Args], str | None] = _any_shape


@dataclass(frozen=True)
class LossRule:
    """A loss of prediction and target, both (n, ...)."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerRule:
    """An optimizer: its update, its arguments and the state that it carries.

    Attributes:
        doc: the update in the field's symbols.
        arguments: hyperparameters; they stay float64 and each framework rounds them as it does for its users.
        state: what it keeps per parameter between steps, by canonical name; empty for plain descent.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    state: tuple[str, ...] = ()


def _vectors_only(shape: Shape, args: Args) -> str | None:
    return None if len(shape) == 1 else f"needs vectors (one axis an example), not shape {shape}"


def _width(args: Args) -> int:
    return int(args["size"])


_SIZE = Argument(int, "number of outputs", at_least=1)

FUNCTIONS: Mapping[str, Op] = MappingProxyType(
    {
        "dot": Op(
            "x W, with W of shape (in, out)",
            {"size": _SIZE},
            parameters=lambda shape, args: {"w": (shape[0], _width(args))},
            output=lambda shape, args: (_width(args),),
            refuses=_vectors_only,
        ),
        "add": Op(
            "x + b, with b of shape (out,)",
            parameters=lambda shape, args: {"b": shape},
            refuses=_vectors_only,
        ),
        "linear": Op(
            "x W + b: dot, then add",
            {"size": _SIZE},
            parameters=lambda shape, args: {"w": (shape[0], _width(args)), "b": (_width(args),)},
            output=lambda shape, args: (_width(args),),
            refuses=_vectors_only,
        ),
    }
)

LOSSES: Mapping[str, LossRule] = MappingProxyType(
    {
        # torch's MSELoss and optax' squared_error agree on e²; optax' l2_loss is e²/2.
        "squared_error": LossRule(
            "e² with e = prediction − target, summed or averaged over all elements",
            {"reduction": Argument(str, "over all elements of the batch", "mean", choices=("sum", "mean"))},
        ),
    }
)

OPTIMIZERS: Mapping[str, OptimizerRule] = MappingProxyType(
    {
        "sgd": OptimizerRule(
            "w ← w − η g",
            {"learning_rate": Argument(float, "η", above=0.0)},
        ),
    }
)


def checked_name(kind: str, name: object, table: Mapping[str, object]) -> str:
    """The name, if the table has it.

    Raises:
        ProblemError: it is not a string.
        UnknownNameError: the table has no such member; the message says the closest.
    """
    if not isinstance(name, str):
        raise ProblemError(f"the name of the {kind} has the wrong type", repr(name), "give a string")
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownNameError(f"unknown {kind}", repr(name), f"{hint}known: {', '.join(table)}")
    return name


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
