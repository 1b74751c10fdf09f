"""Optimizers that torch.optim has not, or not with the stated arguments, on one base class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lockstep.backends.ops import Args

Slots = dict[str, Any]
"""The optimizer's state for one parameter, by the key that torch's nearest class has for it; changed in place."""

Direction = Callable[[torch.Tensor, torch.Tensor, Slots, int, float], torch.Tensor]
"""(gradient, parameter, slots, step t from 1, learning rate) -> update to subtract."""


class Composed(torch.optim.Optimizer):
    """An optimizer from one parameter's update; decay is torch's: λ w in the gradient or, decoupled, w (1 − η λ).

    What it keeps must be in `state` before the first step: the trainer puts the registry's initial state there.
    """

    def __init__(self, params: Iterable[nn.Parameter], direction: Direction, args: Args) -> None:
        defaults = {"lr": args["learning_rate"], "weight_decay": args.get("weight_decay", 0.0)}
        super().__init__(params, {**defaults, "decoupled": args.get("decoupled", True)})
        self._direction = direction

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, w: nn.Parameter, g: torch.Tensor, group: dict[str, Any]) -> None:
        slots, decay = self.state[w], group["weight_decay"]
        slots["step"] += 1
        if decay and not group["decoupled"]:
            g = g.add(w, alpha=decay)
        update = self._direction(g, w, slots, int(slots["step"]), group["lr"])
        if decay and group["decoupled"]:
            w.mul_(1 - group["lr"] * decay)
        w.sub_(update)


def adagrad(args: Args) -> Direction:
    """optax.adagrad: ε inside the root, where torch.optim.Adagrad has it outside."""
    epsilon = float(args["epsilon"])

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        total: torch.Tensor = slots["sum"].addcmul_(g, g)
        return rate * g * (total + epsilon).rsqrt()

    return direction


def rmsprop(args: Args) -> Direction:
    """optax.rmsprop: ε inside the root and the rate inside the trace, where torch.optim.RMSprop has them outside."""
    decay, epsilon, momentum = (float(args[name]) for name in ("decay", "epsilon", "momentum"))

    def scaled(g: torch.Tensor, slots: Slots) -> torch.Tensor:
        variance = _averaged(slots["square_avg"], g * g, decay)
        if args["centered"]:
            variance = variance - _averaged(slots["grad_avg"], g, decay).square()
        return g / ((variance + epsilon).sqrt() if args["epsilon_inside"] else variance.sqrt() + epsilon)

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        d = scaled(g, slots)
        if not momentum:
            return rate * d
        trace: torch.Tensor = slots["momentum_buffer"].mul_(momentum)
        return -trace.sub_(d, alpha=rate) if args["rate_in_trace"] else rate * trace.add_(d)

    return direction


def adam(args: Args) -> Direction:
    """optax.adam and optax.amsgrad: an ε inside the root, and the largest v̂; torch.optim.Adam corrects the largest v."""
    beta1, beta2, epsilon, inside = (
        float(args[name]) for name in ("beta1", "beta2", "epsilon", "epsilon_root")
    )

    def corrected(square: torch.Tensor, slots: Slots, t: int) -> torch.Tensor:
        unbias = 1 - beta2**t
        if not args.get("amsgrad", False):
            return square / unbias
        largest: torch.Tensor = slots["max_exp_avg_sq"]
        if args["amsgrad_corrected"]:
            return torch.maximum(largest, square / unbias, out=largest)
        return torch.maximum(largest, square, out=largest) / unbias

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        mean, square = _moments(slots, g, beta1, beta2)
        root = (corrected(square, slots, t) + inside).sqrt() + epsilon
        return rate * (mean / (1 - beta1**t)) / root

    return direction


def radam(args: Args) -> Direction:
    """optax.radam: ε added to √v̂, and any threshold; torch.optim.RAdam adds it to √v, and its threshold is 5."""
    beta1, beta2, epsilon = (float(args[name]) for name in ("beta1", "beta2", "epsilon"))
    longest = 2 / (1 - beta2) - 1

    def rectified(square: torch.Tensor, t: int) -> torch.Tensor | float:
        unbias = 1 - beta2**t
        length = longest - 2 * t * beta2**t / unbias
        if length <= args["threshold"]:
            return 1.0
        trust = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        if args["epsilon_corrected"]:
            return math.sqrt(trust) / ((square / unbias).sqrt() + epsilon)
        return math.sqrt(trust * unbias) / (square.sqrt() + epsilon)

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        mean, square = _moments(slots, g, beta1, beta2)
        return rate * (mean / (1 - beta1**t)) * rectified(square, t)

    return direction


def rprop(args: Args) -> Direction:
    """optax.rprop: it takes the step that torch.optim.Rprop took one update earlier."""
    shrink, grow, smallest, largest = (
        float(args[name]) for name in ("shrink", "grow", "smallest", "largest")
    )

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        turn = g * slots["prev"]
        factor = torch.ones_like(g).masked_fill_(turn > 0, grow).masked_fill_(turn < 0, shrink)
        size = slots["step_size"].mul_(factor).clamp_(smallest, largest)
        update: torch.Tensor = slots["prev"].masked_fill(turn < 0, 0.0)
        slots["prev"] = (size * g.sign()).masked_fill_(turn < 0, 0.0)
        return update

    return direction


def adafactor(args: Args) -> Direction:
    """optax.adafactor: ε added to g², no bound on the rate, small matrices not factored; torch.optim has no such choice."""
    added, clip, scale = args["epsilon_added"], float(args["clip"]), float(args["epsilon_scale"])

    def estimated(g: torch.Tensor, slots: Slots, t: int) -> torch.Tensor:
        least = float(args["epsilon"]) or torch.finfo(g.dtype).eps
        square, floor = (g * g + least, 0.0) if added else (g * g, least)
        weight = t ** -float(args["decay"])
        if "variance" in slots:
            estimate = slots["variance"].lerp_(square, weight)
        else:
            row = slots["row_var"].lerp_(square.mean(dim=-1, keepdim=True), weight)
            column = slots["col_var"].lerp_(square.mean(dim=-2, keepdim=True), weight)
            estimate = row * column / row.mean().clamp(min=floor)
        bounded: torch.Tensor = estimate.clamp(min=floor * floor)
        return bounded

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        update = g * estimated(g, slots, t).rsqrt()
        bounded = min(rate, 1 / math.sqrt(t)) if args["relative_step"] else rate
        return update * (bounded * max(scale, _rms(w)) / max(1.0, _rms(update) / clip))

    return direction


def lion(args: Args) -> Direction:
    """Chen et al. (2023), as optax.lion computes it; torch.optim has no Lion."""
    beta1, beta2 = float(args["beta1"]), float(args["beta2"])

    def direction(g: torch.Tensor, w: torch.Tensor, slots: Slots, t: int, rate: float) -> torch.Tensor:
        sign: torch.Tensor = (beta1 * slots["exp_avg"] + (1 - beta1) * g).sign()
        _averaged(slots["exp_avg"], g, beta2)
        return rate * sign

    return direction


def _moments(slots: Slots, g: torch.Tensor, beta1: float, beta2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The averages of the gradient and of its square, updated."""
    return _averaged(slots["exp_avg"], g, beta1), _averaged(slots["exp_avg_sq"], g * g, beta2)


def _averaged(average: torch.Tensor, value: torch.Tensor, beta: float) -> torch.Tensor:
    """β a + (1 − β) value, in place."""
    return average.mul_(beta).add_(value, alpha=1 - beta)


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
