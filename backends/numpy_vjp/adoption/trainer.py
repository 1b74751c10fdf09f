"""A user's own chain of functions with hand-written VJPs as a trainer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lockstep.backends.adoption import AdoptedTrainer, AdoptionError, check_names, common_dtype
from lockstep.backends.numpy_vjp.chain import evaluate_chain, pull_back
from lockstep.backends.numpy_vjp.function import Function, Param
from lockstep.backends.numpy_vjp.optimizers import OptimizerState, Transform, update_params
from lockstep.backends.numpy_vjp.special import one
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Scalar, Snapshot, select

Chain = Sequence[tuple[Function, str | None]]
"""Functions in order, each with the name of its parameter or None."""


class State(NamedTuple):
    """Never changed in place."""

    parameters: dict[str, Array]
    optimizer: OptimizerState
    step: int


class NumPyAdopted(AdoptedTrainer):
    """See `adopt`. Pure: no method changes its arguments."""

    generator = ""

    def __init__(self, chain: Chain, loss: Function, optimizer: Transform, params: Arrays, name: str) -> None:
        self.name = name
        self._chain, self._optimizer = tuple(chain), optimizer
        self._funcs = [*(function for function, _ in chain), loss]
        self._params = _copies(params)
        self.dtype = common_dtype(name, {key: str(value.dtype) for key, value in self._params.items()})

    def redrawn(self) -> None:
        return None

    def environment(self) -> Mapping[str, str | int | bool]:
        return {"version": np.__version__, "reduced_precision": False}

    def init(self) -> State:
        parameters = _copies(self._params)
        return State(parameters, self._optimizer.init(parameters), 0)

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, dict[str, Array]]:
        params = self._chain_params(state, batch.y)
        values = evaluate_chain(batch.x, self._funcs, params, return_all=True)
        _, pulled = pull_back(values, self._funcs, params, one(values[-1]))
        grads: dict[str, Array] = {}
        for (_, name), grad in zip(self._chain, pulled, strict=False):
            if name is not None:  # a parameter that stands twice has the sum
                grads[name] = grads[name] + grad if name in grads else grad
        return state, values[-1], dict(sorted(grads.items()))

    def apply(self, state: State, grads: Arrays) -> State:
        updates, optimizer = self._optimizer.update(grads, state.optimizer, state.parameters, state.step + 1)
        return State(update_params(updates, state.parameters), optimizer, state.step + 1)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        values = evaluate_chain(batch.x, self._funcs, self._chain_params(state, batch.y), return_all=True)
        stages = {
            f"forward/{index}.{function.__name__}": value
            for index, ((function, _), value) in enumerate(zip(self._chain, values[1:], strict=False))
        }
        stages |= {"forward/output": values[-2], "loss": values[-1]}
        return {name: np.array(value) for name, value in select(stages, wanted).items()}

    def predict(self, state: State, x: Array) -> Array:
        return np.array(evaluate_chain(x, self._funcs[:-1], self._chain_params(state, None)[:-1]))

    def read(self, state: State) -> Snapshot:
        return Snapshot(_copies(state.parameters), _copies(state.optimizer), state.step)

    def write(self, state: State, snapshot: Snapshot) -> State:
        check_names(self.name, snapshot.parameters, self._params)
        parameters = _copies(snapshot.parameters)
        optimizer = snapshot.optimizer or self._optimizer.init(parameters)
        return State(parameters, _copies(optimizer), snapshot.step)

    def read_grads(self, grads: Arrays) -> Arrays:
        return _copies(grads)

    def write_grads(self, arrays: Arrays) -> Arrays:
        check_names(self.name, arrays, self._params)
        return _copies(arrays)

    def _chain_params(self, state: State, y: Param) -> list[Param]:
        """The parameters in the chain's order; the target is the loss' constant."""
        return [*(None if name is None else state.parameters[name] for _, name in self._chain), y]


def adopt(
    chain: Chain, loss: Function, optimizer: Transform, params: Arrays, *, name: str = "numpy"
) -> NumPyAdopted:
    """Your own chain of functions as a trainer.

    Args:
        chain: ``[(dot, "w"), (add, "b"), (tanh, None)]``: functions in order, each with its parameter's name.
        loss: its second argument is y.
        optimizer: a pure (init, update) pair: ``sgd(0.1)``.
        params: by name, all float64 or all float32.
        name: what reports call it.

    Raises:
        AdoptionError: the chain and `params` name other parameters, or the dtypes are not one.
    """
    named = {one for _, one in chain if one is not None}
    if named != set(params):
        raise AdoptionError(
            f"{name}: the chain and its parameters name different ones",
            ", ".join(sorted(named ^ set(params))),
            "name each parameter in the chain, and give each one that is named",
        )
    return NumPyAdopted(chain, loss, optimizer, params, name)


def _copies(arrays: Arrays) -> dict[str, Array]:
    return {name: np.array(value) for name, value in sorted(arrays.items())}
