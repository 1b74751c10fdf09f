"""A user's own whole training step: how it is called, and where the loss is in what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptedTrainer, AdoptionError
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, UNDIVIDED, Grads, Scalar, State

Step = Callable[..., Any]
"""(state, batch), (state, x, y), or (batch) alone where it holds its state; a tuple's parts may be its first arguments."""

FORMS = "step(state, batch), step(state, x, y), or step(batch) where it holds the state itself"

UNHALVED = "its step cannot be taken apart"

RESULTS = "its value next to the state; under `loss` in a dict of metrics, or first in a tuple"


def defined_in(function: Any) -> str:
    """`` (train_step, line 12 of train.py)``; empty where that is not known."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return f" ({function.__name__}, line {code.co_firstlineno} of {Path(code.co_filename).name})"


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
        count = _taken(step)
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


def _taken(step: Step) -> int:
    """How many arguments a step must be given by position; two where that is not known."""
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return 2
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = sum(one.kind in by_place and one.default is inspect.Parameter.empty for one in parameters)
    return count or 2


def loss_of(name: str, step: Step, result: Any) -> Any:
    """The loss among what a step returns: a scalar, or an array of one element.

    Args:
        name: of the trainer, for errors.
        step: the user's function.
        result: what it returned, without its state.

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
    return found


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
    generator = ""

    def redrawn(self) -> Adopted | None:
        return None

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
