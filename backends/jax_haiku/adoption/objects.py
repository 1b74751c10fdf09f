"""Objects that are models: a Flax TrainState, an NNX module and an Equinox module hold their parameters, a Flax Linen module does not.

None of the three frameworks is imported here: whoever gives such an object has imported its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from lockstep.backends.adoption import Tree, called
from lockstep.backends.jax_haiku.adoption.parts import Apply

COLLECTIONS = ("batch_stats",)
"""Fields of a TrainState that are variables of the model which its forward pass moves."""


class TakenApart(NamedTuple):
    """What `adopt` takes one by one; the state is None where there is none."""

    apply: Apply
    optimizer: Any
    params: Tree
    state: Tree


def taken_apart(model: Any, optimizer: Any, params: Tree) -> TakenApart | None:
    """An object's parts; None of all else. Nothing of the object is changed.

    Args:
        model: what may be such an object.
        optimizer: an Optax transform, of NNX also an `nnx.Optimizer`; None for the one of a TrainState.
        params: of a Linen module, the parameters or all that its ``init`` gave; else None: a function may be an Equinox module, too.
    """
    if params is not None:
        return _module(model, optimizer, params) if is_of(model, "flax.linen", "Module") else None
    if is_of(model, "flax.training.train_state", "TrainState"):
        return _train_state(model, optimizer)
    if is_of(model, "flax.nnx", "Module"):
        return _nnx(model, optimizer)
    return _equinox(model, optimizer) if is_of(model, "equinox", "Module") else None


def is_of(given: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of a framework that someone has imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(given, kind)


def _train_state(given: Any, optimizer: Any) -> TakenApart:
    moved = {name: getattr(given, name) for name in COLLECTIONS if hasattr(given, name)}
    apply = _linen(given.apply_fn)
    return TakenApart(apply, given.tx if optimizer is None else optimizer, given.params, moved or None)


def _module(given: Any, optimizer: Any, variables: Tree) -> TakenApart:
    whole = "params" in variables
    moved = {name: one for name, one in variables.items() if name != "params"} if whole else {}
    return TakenApart(
        _linen(given.apply), optimizer, variables["params"] if whole else variables, moved or None
    )


def _linen(function: Callable[..., Any]) -> Apply:
    """``module.apply`` with the variables, with ``rngs={"dropout": key}``, and with what it may move."""

    def apply(params: Tree, state: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        variables = params if "params" in params else {"params": params}
        settings: dict[str, Any] = {} if key is None else {"rngs": {"dropout": key}}
        if state is None:
            return called(partial(function, variables, **settings), x), None
        settings["mutable"] = list(state)
        output, after = called(partial(function, {**variables, **state}, **settings), x)
        return output, {name: after[name] for name in state}

    return apply


def _nnx(given: Any, optimizer: Any) -> TakenApart:
    """The module is merged anew at each call: its variables other than the parameters are the state."""
    nnx = sys.modules["flax.nnx"]
    is_own = is_of(optimizer, "flax.nnx", "Optimizer")
    trained = optimizer.wrt if is_own else nnx.Param
    graph, params, state = nnx.split(given, trained, ...)

    def apply(params: Tree, state: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        module = nnx.merge(graph, params, *(() if state is None else (state,)))
        settings = {} if key is None else {"rngs": nnx.Rngs(key)}
        output = called(partial(module, **settings), x)
        return output, None if state is None else nnx.split(module, trained, ...)[2]

    return TakenApart(
        apply, optimizer.tx if is_own else optimizer, params, state if jax.tree.leaves(state) else None
    )


def _equinox(given: Any, optimizer: Any) -> TakenApart:
    """The module is called row by row, as those of Equinox are written, each row with a key of its own."""
    equinox = sys.modules["equinox"]
    params, rest = equinox.partition(given, equinox.is_inexact_array)

    def apply(params: Tree, state: Tree, key: Any, x: Any) -> tuple[Any, Tree]:
        module = jax.vmap(equinox.combine(params, rest))
        rows = len(jax.tree.leaves(x)[0])
        settings = {} if key is None else {"key": jax.random.split(key, rows)}
        return called(partial(module, **settings), x), state

    return TakenApart(apply, optimizer, params, None)


class Carried:
    """NNX objects that a step moves in place, alone or in tuples, lists and dicts, as a tree that a run carries.

    Args:
        objects: the user's own.
    """

    def __init__(self, objects: Any) -> None:
        self._nnx = sys.modules["flax.nnx"]
        self._graph, self.tree = self._nnx.split(objects)

    def objects(self, tree: Tree) -> Any:
        """Objects of their own that hold these arrays."""
        # Made anew: Flax NNX lets its variables be changed only where they were made.
        return self._nnx.merge(self._graph, jax.tree.map(lambda one: one, tree))

    def tree_of(self, objects: Any) -> Tree:
        """What the objects hold."""
        return self._nnx.split(objects)[1]


def carried(state: Any) -> Carried | None:
    """The NNX objects of a state; None where there are none."""
    return Carried(state) if _holds_nnx(state) else None


def _holds_nnx(state: Any) -> bool:
    if isinstance(state, (tuple, list)):
        return any(_holds_nnx(one) for one in state)
    if isinstance(state, dict):
        return any(_holds_nnx(one) for one in state.values())
    return is_of(state, "flax.nnx", "Module") or is_of(state, "flax.nnx", "Optimizer")
