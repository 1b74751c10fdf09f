"""The losses: torch.nn's own where it has one with the right arguments, else composed of torch functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from backends.ops import Args

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _reduced(loss: Loss, args: Args) -> Loss:
    """The sum or mean over all elements of what `loss` gives."""
    if args["reduction"] == "sum":
        return lambda prediction, target: loss(prediction, target).sum()
    return lambda prediction, target: loss(prediction, target).mean()


def _half_squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """torch.nn has only e²."""
    return 0.5 * (prediction - target) ** 2


def _log_cosh(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Torch has none; the form that does not overflow, as optax'."""
    e = prediction - target
    return torch.logaddexp(e, -e) - math.log(2)


def _quantile(q: float) -> Loss:
    """Torch has none; at a tie torch.maximum halves the derivative between both sides, as stated."""
    return lambda p, y: torch.maximum(q * (y - p), (q - 1) * (y - p))


def _gaussian(epsilon: float) -> Loss:
    """nn.GaussianNLLLoss of eˢ, which would overflow. Log v is clamped, its derivative in s is eˢ/v, as theirs."""
    floor = math.log(epsilon)

    def loss(prediction: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        m, s = prediction.chunk(2, dim=-1)
        through = (s.detach() - floor).clamp(max=0.0).exp()
        t = s.detach().clamp(min=floor) + through * (s - s.detach())
        return 0.5 * (t + (y - m) ** 2 * torch.exp(-t))

    return loss


LOSSES: Mapping[str, Callable[[Args], Loss]] = {
    "squared_error": lambda args: nn.MSELoss(reduction=str(args["reduction"])),
    "half_squared_error": lambda args: _reduced(_half_squared_error, args),
    "absolute_error": lambda args: nn.L1Loss(reduction=str(args["reduction"])),
    "huber": lambda args: nn.HuberLoss(str(args["reduction"]), float(args["delta"])),
    "smooth_l1": lambda args: nn.SmoothL1Loss(reduction=str(args["reduction"]), beta=float(args["beta"])),
    "log_cosh": lambda args: _reduced(_log_cosh, args),
    "quantile": lambda args: _reduced(_quantile(float(args["q"])), args),
    "poisson": lambda args: nn.PoissonNLLLoss(log_input=True, full=False, reduction=str(args["reduction"])),
    "logistic": lambda args: nn.BCEWithLogitsLoss(reduction=str(args["reduction"])),
    "softmax_cross_entropy": lambda args: nn.CrossEntropyLoss(reduction=str(args["reduction"])),
    "gaussian": lambda args: _reduced(_gaussian(float(args["epsilon"])), args),
}
