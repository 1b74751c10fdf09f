"""The closure that an optimizer's step may take: LBFGS evaluates the loss several times in one step, SAM at other parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch

from lockstep.backends.problem import Batch
from lockstep.backends.pytorch.adoption.parts import trained
from lockstep.backends.pytorch.adoption.state import State

Evaluate = Callable[[Batch], torch.Tensor]
"""A batch -> its loss; its gradients are put into the parameters."""


def takes_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step has an argument of that name."""
    return "closure" in inspect.signature(optimizer.step).parameters


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
