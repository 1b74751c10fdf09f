"""The closure that an optimizer's step may take: LBFGS evaluates the loss several times in one step, SAM at other parameters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from lockstep.backends.problem import Batch
from lockstep.backends.pytorch.adoption.parts import trained
from lockstep.backends.pytorch.adoption.state import State

Evaluate = Callable[[Batch], torch.Tensor]
"""A batch -> its loss; its gradients are put into the parameters."""


Kind = type[torch.optim.Optimizer]


@functools.cache
def _argument(step: Callable[..., Any]) -> inspect.Parameter | None:
    """The closure among the arguments of an optimizer's step; asked for in every step, looked up once."""
    return inspect.signature(step).parameters.get("closure")


def takes_closure(kind: Kind) -> bool:
    """Whether the step of such an optimizer has an argument of that name."""
    return _argument(kind.step) is not None


def needs_closure(kind: Kind) -> bool:
    """Whether the step of such an optimizer cannot do without it."""
    argument = _argument(kind.step)
    return argument is not None and argument.default is inspect.Parameter.empty


def evaluating_again(state: State, evaluate: Evaluate) -> Callable[[], torch.Tensor]:
    """The closure of one update.

    Where no parameter has moved yet and the gradients are still there, these are the ones: in a lockstep run they are the
    reference's. Otherwise the loss of the same batch is computed again.
    """
    parameters = trained(state.module)
    grads = {name: one.grad for name, one in parameters.items()}
    versions = {name: one._version for name, one in parameters.items()}
    known, evaluated = any(one is not None for one in grads.values()), state.evaluated

    @torch.enable_grad()
    def closure() -> torch.Tensor:
        unmoved = all(one._version == versions[name] for name, one in parameters.items())
        there = any(one.grad is not None for one in parameters.values()) or not known
        if evaluated is None or (unmoved and there):
            if evaluated is None:  # gradients alone are known: those of a linear loss
                for name, one in parameters.items():
                    one.grad = grads[name]
            return torch.zeros(()) if evaluated is None else evaluated[1]
        loss = evaluate(evaluated[0])
        if state.functions.before_update is not None:
            state.functions.before_update(state.module)
        return loss

    return closure
