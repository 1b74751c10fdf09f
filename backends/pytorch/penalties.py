"""Penalties, composed of torch functions: torch has none that are part of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from lockstep.backends.ops import Args
from lockstep.backends.problem import Problem

Penalty = Callable[[torch.Tensor], torch.Tensor]

PENALTIES: Mapping[str, Callable[[Args], Penalty]] = {
    "l1": lambda args: lambda w: float(args["weight"]) * w.abs().sum(),
    "l2": lambda args: lambda w: 0.5 * float(args["weight"]) * w.square().sum(),
}


def adding(problem: Problem) -> Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]:
    """What adds the problem's penalties to a loss, given the parameters by canonical name."""
    terms = [
        (PENALTIES[penalty.name](penalty.args), name)
        for penalty in problem.penalties
        for name in problem.penalised(penalty)
    ]

    def add(loss: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        for term, name in terms:
            loss = loss + term(parameters[name])
        return loss

    return add
