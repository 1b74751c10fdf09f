"""An optimizer alone, in NumPy: a pure (init, update) pair, or one of the catalogue, by the formula that it states."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.numpy_vjp.optimizers import (
    OPTIMIZERS,
    OptimizerState,
    Transform,
    update_params,
)
from lockstep.backends.numpy_vjp.schedules import SCHEDULES
from lockstep.backends.problem import CONSTANT, Array, Arrays, Optimizer, Schedule
from lockstep.backends.protocol import Snapshot


class State(NamedTuple):
    """Never changed in place by us."""

    parameters: Arrays
    optimizer: OptimizerState
    step: int


class NumPyOptimizer:
    """See `optimizer_side`."""

    def __init__(self, transform: Transform, name: str) -> None:
        self._transform, self.name = transform, name

    def begin(self, parameters: Arrays) -> State:
        held = _copies(parameters)
        return State(held, self._transform.init(held), 0)

    def update(self, state: State, grads: Arrays) -> State:
        step = state.step + 1
        updates, optimizer = self._transform.update(grads, state.optimizer, state.parameters, step)
        return State(update_params(updates, state.parameters), optimizer, step)

    def resumed(self, state: State) -> State:
        return State(_copies(state.parameters), _copies(state.optimizer), state.step)

    def read(self, state: State) -> Snapshot:
        return Snapshot(_copies(state.parameters), _copies(state.optimizer), state.step)

    def write(self, state: State, parameters: Arrays) -> State:
        return state._replace(parameters=_copies(parameters))

    def write_grads(self, arrays: Arrays) -> Arrays:
        return _copies(arrays)

    def read_grads(self, grads: Arrays) -> Arrays:
        return _copies(grads)


def optimizer_side(given: object) -> OptimizerSide | None:
    """An `Optimizer` of the catalogue, alone or as ``(Optimizer(...), Schedule(...))``, or a `Transform`; None of all else."""
    if isinstance(given, Transform):
        return NumPyOptimizer(given, "NumPy transform")
    optimizer, schedule = given if isinstance(given, tuple) and len(given) == 2 else (given, CONSTANT)
    if not isinstance(optimizer, Optimizer) or not isinstance(schedule, Schedule):
        return None
    factor = SCHEDULES[schedule.name](schedule.args)
    return NumPyOptimizer(OPTIMIZERS[optimizer.name](optimizer.args, factor), f"{optimizer.name}'s formula")


def _copies(arrays: Arrays) -> dict[str, Array]:
    return {name: np.array(value) for name, value in sorted(arrays.items())}
