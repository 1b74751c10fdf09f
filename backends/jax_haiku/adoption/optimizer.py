"""A user's own Optax transform, alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.jax_haiku.adoption import extra_args
from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Snapshot

Params = Mapping[str, Any]
Step = Callable[[Params, Any, Params], tuple[Params, Any]]


WHOLE = "adopt it together with a model and a loss (lockstep.adopt_jax): an optimizer alone has neither a loss nor a function of it"


class State(NamedTuple):
    """Pure trees of arrays, JAX's or NumPy's, and the compiled update that goes on with them."""

    params: Params
    optimizer: optax.OptState
    step: int
    update: Step


class OptaxOptimizer:
    """See `optimizer_side`. Updates are jitted, as training makes them."""

    name = "Optax transform"

    def __init__(self, transform: Any) -> None:
        self._transform = transform
        self._update = self._traced()

    def begin(self, parameters: Arrays) -> State:
        with _precision(parameters):
            params = {name: jnp.array(value) for name, value in sorted(parameters.items())}
            return State(params, self._transform.init(params), 0, self._update)

    def update(self, state: State, grads: Params) -> State:
        with _precision(state.params):
            params, optimizer = state.update(state.params, state.optimizer, grads)
            return State(params, optimizer, state.step + 1, state.update)

    def resumed(self, state: State) -> State:
        """With an update that is traced anew: what a transform kept outside of its state is not there."""
        with _precision(state.params):
            saved = jax.tree.map(np.array, (state.params, state.optimizer))
            params, optimizer = jax.tree.map(jnp.array, saved)
            return State(params, optimizer, state.step, self._traced())

    def read(self, state: State) -> Snapshot:
        entries, _ = jax.tree_util.tree_flatten_with_path(state.optimizer)
        slots = {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in entries}
        return Snapshot(_copies(state.params), slots, state.step)

    def write(self, state: State, parameters: Arrays) -> State:
        return state._replace(params=_copies(parameters))

    def write_grads(self, arrays: Arrays) -> Params:
        return _copies(arrays)

    def read_grads(self, grads: Params) -> Arrays:
        return _copies(grads)

    def _traced(self) -> Step:
        def update(params: Params, optimizer: Any, grads: Params) -> tuple[Params, Any]:
            updates, optimizer = extra_args.update(self._transform, grads, optimizer, params, {}, WHOLE)
            return optax.apply_updates(params, updates), optimizer

        step: Step = jax.jit(update)
        return step


def optimizer_side(given: object) -> OptimizerSide | None:
    """An Optax transform, or what is used as one; None of all else."""
    is_optax = isinstance(given, (optax.GradientTransformation, optax.MultiSteps))
    return OptaxOptimizer(given) if is_optax else None


def _precision(arrays: Any) -> AbstractContextManager[object]:
    """JAX's x64 switch: on for float64, and for float32 as the user has it."""
    is_double = any(value.dtype == np.float64 for value in arrays.values())
    switch: AbstractContextManager[object] = jax.enable_x64(
        is_double or bool(jax.config.values["jax_enable_x64"])
    )
    return switch


def _copies(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """As NumPy arrays, which a jitted function takes as they are, and faster than it could be given its own."""
    return {name: np.array(value) for name, value in sorted(arrays.items())}
