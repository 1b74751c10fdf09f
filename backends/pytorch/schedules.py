"""The schedules of torch.optim.lr_scheduler with the stated arguments; each is stepped once an update."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from torch.optim import lr_scheduler

from lockstep.backends.ops import Args

Scheduler = lr_scheduler.LRScheduler


def _piecewise(optimizer: torch.optim.Optimizer, args: Args) -> Scheduler:
    """MultiStepLR; where the factors differ LambdaLR, because MultiStepLR has one for all boundaries."""
    boundaries: tuple[int, ...] = args["boundaries"]
    factors: tuple[float, ...] = args["factors"]
    if len(set(factors)) == 1:
        return lr_scheduler.MultiStepLR(optimizer, boundaries, factors[0])

    def factor(t: int) -> float:
        return math.prod(one for boundary, one in zip(boundaries, factors, strict=True) if boundary <= t)

    return lr_scheduler.LambdaLR(optimizer, factor)


def _polynomial(optimizer: torch.optim.Optimizer, args: Args) -> Scheduler:
    return lr_scheduler.PolynomialLR(optimizer, int(args["steps"]), float(args["power"]))


def _half_cosine(t: float, steps: float, final: float) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(t, steps) / steps))


def _cosine(optimizer: torch.optim.Optimizer, args: Args) -> Scheduler:
    """LambdaLR: CosineAnnealingLR rises again after T, and its end is a rate, not a fraction."""
    steps, final = int(args["steps"]), float(args["final"])
    return lr_scheduler.LambdaLR(optimizer, lambda t: _half_cosine(t, steps, final))


def _warmup_cosine(optimizer: torch.optim.Optimizer, args: Args) -> Scheduler:
    """LambdaLR: torch chains LinearLR, which cannot start at 0, with CosineAnnealingLR."""
    warmup, steps, final = int(args["warmup"]), int(args["steps"]), float(args["final"])

    def factor(t: int) -> float:
        return t / warmup if t < warmup else _half_cosine(t - warmup, steps - warmup, final)

    return lr_scheduler.LambdaLR(optimizer, factor)


SCHEDULES: Mapping[str, Callable[[torch.optim.Optimizer, Args], Scheduler | None]] = {
    "constant": lambda optimizer, args: None,
    "step": lambda optimizer, args: lr_scheduler.StepLR(optimizer, int(args["steps"]), float(args["factor"])),
    "piecewise": _piecewise,
    "exponential": lambda optimizer, args: lr_scheduler.ExponentialLR(optimizer, float(args["factor"])),
    "polynomial": _polynomial,
    "cosine": _cosine,
    "warmup_cosine": _warmup_cosine,
}


def scheduler_at(optimizer: torch.optim.Optimizer, name: str, args: Args, step: int) -> Scheduler | None:
    """The scheduler after `step` updates, stepped there as training would have: torch's rates are recursive."""
    scheduler = SCHEDULES[name](optimizer, args)
    if scheduler is not None:
        with warnings.catch_warnings():  # that no update came before these steps is what is meant
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for _ in range(step):
                scheduler.step()
    return scheduler
