"""The losses: torch.nn.functional's own where it has one with the right arguments, else composed of torch functions.

Functions, not the modules of the same names: a module's call costs a small model one part in fifty of its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.nn import functional

from lockstep.backends.ops import Args

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _reduced(loss: Loss, args: Args) -> Loss:
    """The sum or mean over all elements of what `loss` gives."""
    if args["reduction"] == "sum":
        return lambda prediction, target: loss(prediction, target).sum()
    return lambda prediction, target: loss(prediction, target).mean()


def _half_squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """torch.nn.functional has only e²."""
    return 0.5 * (prediction - target) ** 2


def _log_cosh(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Torch has none; the form that does not overflow, as optax'."""
    e = prediction - target
    return torch.logaddexp(e, -e) - math.log(2)


def _quantile(q: float) -> Loss:
    """Torch has none; at a tie torch.maximum halves the derivative between both sides, as stated."""
    return lambda p, y: torch.maximum(q * (y - p), (q - 1) * (y - p))


def _gaussian(epsilon: float) -> Loss:
    """gaussian_nll_loss of eˢ, which would overflow. Log v is clamped, its derivative in s is eˢ/v, as theirs."""
    floor = math.log(epsilon)

    def loss(prediction: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        m, s = prediction.chunk(2, dim=-1)
        through = (s.detach() - floor).clamp(max=0.0).exp()
        t = s.detach().clamp(min=floor) + through * (s - s.detach())
        return 0.5 * (t + (y - m) ** 2 * torch.exp(-t))

    return loss


def _own(loss: Callable[..., torch.Tensor], args: Args, **others: float | bool) -> Loss:
    """One that reduces by itself."""
    return partial(loss, reduction=str(args["reduction"]), **others)


LOSSES: Mapping[str, Callable[[Args], Loss]] = {
    "squared_error": lambda args: _own(functional.mse_loss, args),
    "half_squared_error": lambda args: _reduced(_half_squared_error, args),
    "absolute_error": lambda args: _own(functional.l1_loss, args),
    "huber": lambda args: _own(functional.huber_loss, args, delta=float(args["delta"])),
    "smooth_l1": lambda args: _own(functional.smooth_l1_loss, args, beta=float(args["beta"])),
    "log_cosh": lambda args: _reduced(_log_cosh, args),
    "quantile": lambda args: _reduced(_quantile(float(args["q"])), args),
    "poisson": lambda args: _own(functional.poisson_nll_loss, args, log_input=True, full=False),
    "logistic": lambda args: _own(functional.binary_cross_entropy_with_logits, args),
    "softmax_cross_entropy": lambda args: _own(functional.cross_entropy, args),
    "gaussian": lambda args: _reduced(_gaussian(float(args["epsilon"])), args),
}
