"""Optimizers as pure pairs: `init` makes the state, `update` turns gradients into updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from backends.ops import Args
from backends.problem import Array, Arrays

Updates = dict[str, Array]
OptimizerState = dict[str, Array]


class Transform(NamedTuple):
    """A pure optimizer over named arrays.

    Attributes:
        init: parameters -> state before the first step.
        update: (gradients, state, parameters) -> (updates to add, next state).
    """

    init: Callable[[Arrays], OptimizerState]
    update: Callable[[Arrays, OptimizerState, Arrays], tuple[Updates, OptimizerState]]


def sgd(learning_rate: float) -> Transform:
    """Gradient descent: the update is −η g."""

    def init(params: Arrays) -> OptimizerState:
        return {}

    def update(grads: Arrays, state: OptimizerState, params: Arrays) -> tuple[Updates, OptimizerState]:
        return {name: -learning_rate * grad for name, grad in grads.items()}, state

    return Transform(init, update)


def update_params(updates: Arrays, params: Arrays) -> dict[str, Array]:
    """New parameters: each plus its update; a parameter without an update stays as it is."""
    return {name: value + updates[name] if name in updates else value for name, value in params.items()}


OPTIMIZERS: Mapping[str, Callable[[Args], Transform]] = {
    "sgd": lambda args: sgd(float(args["learning_rate"])),
}
