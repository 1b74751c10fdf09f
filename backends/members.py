"""What a problem is made of: members of the tables with their arguments, checked and completed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from lockstep.backends.arrays import Array, Arrays
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
    Rule,
    Slot,
    checked_args,
    checked_name,
    preset_args,
)


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
        merged = {**preset_args(where, preset, rule.presets), **args}
        self.args: Args = checked_args(where, merged, rule.arguments)

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
            check_kind(layer, Layer)

    def __repr__(self) -> str:
        if not self.branches:
            return super().__repr__()
        return f"{super().__repr__()[:-1]}, branches={self.branches!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Layer, self.name, branches=self.branches, **self.args), ()


def check_kind(member: object, kind: type[Member]) -> None:
    """Raise a ProblemError unless it is a member of this kind."""
    if not isinstance(member, kind):
        raise ProblemError(
            f"the {kind.kind} has the wrong type",
            f"{member!r} ({type(member).__name__})",
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
    """How the learning rate changes: ``Schedule("step", steps=30, factor=0.1)``."""

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

    def reported(self, values: Arrays, updates: int) -> dict[str, Array]:
        """What stands for the parameters after so many updates: `values`, debiased (in double) where that is asked."""
        if not self.args.get("debias") or not updates:
            return dict(values)
        factor = 1 - float(self.args["decay"]) ** updates
        return {name: value / factor for name, value in values.items()}


CONSTANT = Schedule("constant")
UNCLIPPED = Clip("none")
UNAVERAGED = Average("none")
