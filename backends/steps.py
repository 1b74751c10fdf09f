"""A user's own whole training step: how it is called, and where the loss is in what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.backends.adoption import AdoptedTrainer, AdoptionError
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, UNDIVIDED, Grads, Scalar, State

Step = Callable[..., Any]
"""(state, batch), (state, x, y), or (batch) alone where it holds its state; a tuple's parts may be its first arguments."""

Chosen = str | Sequence[str] | Callable[[str], bool] | None
"""Paths of parameters, or of what holds them, with ``*`` for any letters; a function path -> bool; None to have them found."""

FORMS = "step(state, batch), step(state, x, y), or step(batch) where it holds the state itself"

FACTORY = (
    "give adopt_step() one function without arguments, which makes (step, state) anew at each call: the state that the step "
    "moves, with the same numbers each time"
)
"""The remedy of whatever cannot be copied."""

UNHALVED = "its step cannot be taken apart"

RESULTS = "its value next to the state; under `loss` in a dict of metrics, or first in a tuple"


def defined_in(function: Any) -> str:
    """`` (train_step, line 12 of train.py)``; empty where that is not known."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return f" ({function.__name__}, line {code.co_firstlineno} of {Path(code.co_filename).name})"


@dataclass(frozen=True)
class GivenStep:
    """What a user gave.

    Attributes:
        step: the function.
        state: what it moves, or takes and returns.
        make: what makes both anew; None where copies are to be made.
        parameters: which leaves of a tree are parameters; None where they are to be found.
        seed: of the framework's global generator.
        name: what reports call the trainer.
    """

    step: Step
    state: Any
    make: Callable[[], Any] | None
    parameters: Chosen
    seed: int | None
    name: str


class Call:
    """How a step is called: found in its arguments, those without a default.

    Args:
        name: of the trainer, for errors.
        step: the user's function.
        state: what it is given; of a tuple the parts may be arguments of their own.

    Raises:
        AdoptionError: it takes other arguments.
    """

    def __init__(self, name: str, step: Step, state: Any) -> None:
        count = required(step) or 2
        parts = len(state) if type(state) is tuple else 1
        self.takes_state = count != 1
        self.spreads = parts > 1 and count > 2
        self._splits = count == (parts if self.spreads else 1) + 2
        if not (1 <= count <= 2 or count in (parts + 1, parts + 2)):
            raise AdoptionError(
                f"{name}: its step takes arguments that are not known{defined_in(step)}",
                f"{count} without a default, for a state of {parts} part{'s' * (parts > 1)} and a batch",
                f"give {FORMS}; lambda state, batch: ... may call yours",
            )

    def arguments(self, state: Any, x: Any, y: Any) -> tuple[Any, ...]:
        """The arguments of one step."""
        own = () if not self.takes_state else tuple(state) if self.spreads else (state,)
        return (*own, x, y) if self._splits else (*own, (x, y))


def required(step: Step) -> int:
    """How many arguments a function must be given by position; two where that is not known."""
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return 2
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in by_place and one.default is inspect.Parameter.empty for one in parameters)


def loss_of(name: str, step: Step, result: Any, dtype: str) -> Any:
    """The loss among what a step returns: a scalar, or an array of one element.

    Args:
        name: of the trainer, for errors.
        step: the user's function.
        result: what it returned, without its state.
        dtype: of a loss that is a plain number.

    Raises:
        AdoptionError: there is none, or it is no scalar.
    """
    found = _found(result)
    if found is None:
        raise AdoptionError(
            f"{name}: its step returns no loss{defined_in(step)}",
            _described(result),
            f"return the loss: {RESULTS}",
        )
    if np.prod(np.shape(found), dtype=int) != 1:
        raise AdoptionError(
            f"{name}: the loss that its step returns is no scalar{defined_in(step)}",
            f"shape {tuple(np.shape(found))}",
            "return its mean, or its sum",
        )
    return np.asarray(found, dtype) if isinstance(found, float) else found


def _found(result: Any) -> Any:
    """The loss, or an array that is none; None where there is neither."""
    if isinstance(result, Mapping):
        return _found(result["loss"]) if "loss" in result else None
    if hasattr(result, "shape") or (isinstance(result, (int, float)) and not isinstance(result, bool)):
        return result
    if hasattr(result, "loss"):
        return _found(result.loss)
    for value in ("compute", "result"):  # a metric of Flax or torchmetrics, and of Keras
        if callable(getattr(result, value, None)):
            return _found(getattr(result, value)())
    return _found(result[0]) if isinstance(result, (list, tuple)) and result else None


def _described(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a dict of {', '.join(map(str, result)) or 'nothing'}"
    if isinstance(result, (list, tuple)):
        return f"{type(result).__name__} of {', '.join(type(one).__name__ for one in result) or 'nothing'}"
    return type(result).__name__


class UndividedTrainer(AdoptedTrainer):
    """What trainers of whole steps share: they have no halves, and no stages."""

    capabilities = frozenset({"optimizer_state", UNDIVIDED})

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        raise NotImplementedError(UNHALVED)

    def apply(self, state: State, grads: Grads) -> State:
        raise NotImplementedError(UNHALVED)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        raise NotImplementedError("it has no capability 'stages'")

    def predict(self, state: State, x: Array) -> Array:
        raise NotImplementedError(UNHALVED)

    def read_grads(self, grads: Grads) -> Arrays:
        raise NotImplementedError(UNHALVED)

    def write_grads(self, arrays: Arrays) -> Grads:
        raise NotImplementedError(UNHALVED)
