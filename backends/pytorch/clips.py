"""Clipping of the gradients that torch keeps on its parameters, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn
from torch.nn import utils

from lockstep.backends.ops import Args

ClipInPlace = Callable[[Iterable[nn.Parameter]], object]

TORCH_EPSILON = 1e-6
"""What clip_grad_norm_ adds to the norm; it takes no other."""


def _by_norm(args: Args) -> ClipInPlace:
    limit, epsilon = float(args["limit"]), float(args["epsilon"])
    if epsilon == TORCH_EPSILON:
        return lambda parameters: utils.clip_grad_norm_(parameters, limit)
    return lambda parameters: _with_epsilon(parameters, limit, epsilon)


def _with_epsilon(parameters: Iterable[nn.Parameter], limit: float, epsilon: float) -> None:
    """clip_grad_norm_ with another ε than the one that torch has built in."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = utils.get_total_norm(grads) + epsilon
    factor = torch.where(norm > limit, limit / norm, torch.ones_like(norm))
    for grad in grads:
        grad.mul_(factor)


CLIPS: Mapping[str, Callable[[Args], ClipInPlace]] = {
    "none": lambda args: lambda parameters: None,
    "norm": _by_norm,
    "value": lambda args: lambda parameters: utils.clip_grad_value_(parameters, float(args["limit"])),
}
