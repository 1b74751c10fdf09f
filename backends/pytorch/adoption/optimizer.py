"""A user's own torch optimizer, alone, and with it a scheduler where the user has one."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lockstep.backends.adoption import AdoptionError, OptimizerSide
from lockstep.backends.problem import Arrays, Optimizer
from lockstep.backends.protocol import Snapshot
from lockstep.backends.pytorch.adoption.closure import needs_closure
from lockstep.backends.pytorch.arrays import as_array
from lockstep.backends.pytorch.stated import formula_of

Grads = dict[str, torch.Tensor]
Make = Callable[[list[nn.Parameter]], Any]
"""Parameters -> an optimizer, or (optimizer, scheduler)."""


@dataclass
class State:
    """Live objects, changed in place by every update."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scheduler: Any
    step: int = 0


class TorchOptimizer:
    """See `optimizer_side`."""

    def __init__(self, make: Make, name: str) -> None:
        self._make, self.name = make, name

    def formula(self) -> Optimizer | None:
        """The catalogue's, where one of torch's own classes states it and nothing schedules it."""
        optimizer, scheduler = _both(self._make([nn.Parameter(torch.zeros(2, 2))]))
        return formula_of(optimizer) if scheduler is None else None

    def begin(self, parameters: Arrays) -> State:
        leaves = {name: nn.Parameter(torch.tensor(value)) for name, value in sorted(parameters.items())}
        return State(leaves, *_both(self._make(list(leaves.values()))))

    def update(self, state: State, grads: Grads) -> State:
        for name, one in state.parameters.items():
            one.grad = grads[name]
        state.optimizer.step()
        if state.scheduler is not None:
            state.scheduler.step()
        state.step += 1
        return state

    def resumed(self, state: State) -> State:
        fresh = self.begin(self.read(state).parameters)
        fresh.optimizer.load_state_dict(copy.deepcopy(state.optimizer.state_dict()))
        if state.scheduler is not None:
            fresh.scheduler.load_state_dict(copy.deepcopy(state.scheduler.state_dict()))
        fresh.step = state.step
        return fresh

    def read(self, state: State) -> Snapshot:
        slots = {
            f"{slot}/{name}": as_array(value)
            for name, one in state.parameters.items()
            for slot, value in state.optimizer.state.get(one, {}).items()
            if isinstance(value, torch.Tensor)
        }
        parameters = {name: as_array(one) for name, one in state.parameters.items()}
        return Snapshot(parameters, dict(sorted(slots.items())), state.step)

    @torch.no_grad()
    def write(self, state: State, parameters: Arrays) -> State:
        for name, value in parameters.items():
            state.parameters[name].copy_(torch.tensor(value))
        return state

    def write_grads(self, arrays: Arrays) -> Grads:
        return {name: torch.tensor(value) for name, value in arrays.items()}

    def read_grads(self, grads: Grads) -> Arrays:
        return {name: as_array(one) for name, one in grads.items()}


def optimizer_side(given: object) -> OptimizerSide | None:
    """A torch optimizer as what makes one: a class, ``partial(torch.optim.Adam, lr=0.1)``, or any function of parameters.

    A function may also give ``(optimizer, scheduler)``; the scheduler is stepped after every update.

    Raises:
        AdoptionError: `given` is an optimizer that was made already, a function that makes none, or its step evaluates the loss.
    """
    if isinstance(given, torch.optim.Optimizer):
        raise AdoptionError(
            "an optimizer that was made already holds parameters of its own",
            type(given).__name__,
            "give what makes one: functools.partial(torch.optim.Adam, lr=0.1), or a function of the parameters",
        )
    if not callable(given) or isinstance(given, tuple):
        return None
    factory = given.func if isinstance(given, functools.partial) else given
    kind: type[torch.optim.Optimizer]
    if isinstance(factory, type) and issubclass(factory, torch.optim.Optimizer):
        kind = factory
    else:
        kind = _tried(given)
    if needs_closure(kind):
        raise AdoptionError(
            f"{kind.__name__} evaluates the loss in each update, and here there is none: gradients are all that it is given",
            "a step that cannot do without its closure",
            "adopt a training that uses it, and compare that: lockstep.verify_adopted([adopt(...), adopt(...)], batches)",
        )
    return TorchOptimizer(given, f"torch {kind.__name__}")


def _tried(make: Make) -> type[torch.optim.Optimizer]:
    """The class of what a function makes."""
    try:
        result = make([nn.Parameter(torch.zeros(2, 2))])
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
    else:
        first = result[0] if isinstance(result, tuple) and len(result) == 2 else result
        if isinstance(first, torch.optim.Optimizer):
            return type(first)
        got = type(result).__name__
    raise AdoptionError(
        "a function of a list of parameters does not make a torch optimizer",
        got,
        "return the optimizer, or (optimizer, scheduler); of Optax, give the transform itself",
    )


def _both(built: Any) -> tuple[torch.optim.Optimizer, Any]:
    return built if isinstance(built, tuple) else (built, None)
