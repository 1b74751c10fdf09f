"""The optimizers of torch.optim with the stated arguments, and where torch keeps their state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from backends.ops import Args

Parameters = Iterable[nn.Parameter]


class Row(NamedTuple):
    """How one optimizer is written in torch.

    Attributes:
        build: (parameters, arguments) -> optimizer.
        state: the registry's name of what is kept -> torch's key for it.
    """

    build: Callable[[Parameters, Args], torch.optim.Optimizer]
    state: Mapping[str, str] = {}


def _common(args: Args) -> dict[str, Any]:
    """The arguments that all of torch's classes call alike."""
    names = {"learning_rate": "lr", "weight_decay": "weight_decay", "epsilon": "eps"}
    return {theirs: args[ours] for ours, theirs in names.items() if ours in args}


def _betas(args: Args) -> tuple[float, float]:
    return float(args["beta1"]), float(args["beta2"])


class Lion(torch.optim.Optimizer):
    """torch.optim has no Lion: Chen et al. (2023), as optax.lion computes it."""

    def __init__(
        self, params: Parameters, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, w: nn.Parameter, g: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[w]
        mean = state.setdefault("exp_avg", torch.zeros_like(w))
        beta1, beta2 = group["betas"]
        direction = (beta1 * mean + (1 - beta1) * g).sign()
        w.sub_(group["lr"] * (direction + group["weight_decay"] * w))
        mean.mul_(beta2).add_(g, alpha=1 - beta2)


def _sgd(params: Parameters, args: Args) -> torch.optim.Optimizer:
    extra: dict[str, Any] = {name: args[name] for name in ("momentum", "dampening", "nesterov")}
    return torch.optim.SGD(params, **_common(args), **extra)


def _adagrad(params: Parameters, args: Args) -> torch.optim.Optimizer:
    initial = float(args["initial_accumulator"])
    return torch.optim.Adagrad(params, **_common(args), initial_accumulator_value=initial)


def _rmsprop(params: Parameters, args: Args) -> torch.optim.Optimizer:
    extra: dict[str, Any] = {
        "alpha": args["decay"],
        "centered": args["centered"],
        "momentum": args["momentum"],
    }
    return torch.optim.RMSprop(params, **_common(args), **extra)


def _adam(params: Parameters, args: Args) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, **_common(args), betas=_betas(args), amsgrad=bool(args["amsgrad"]))


OPTIMIZERS: Mapping[str, Row] = {
    "sgd": Row(_sgd, {"momentum": "momentum_buffer"}),
    "adagrad": Row(_adagrad, {"sum": "sum"}),
    "adadelta": Row(
        lambda params, args: torch.optim.Adadelta(params, **_common(args), rho=float(args["rho"])),
        {"square": "square_avg", "delta": "acc_delta"},
    ),
    "rmsprop": Row(_rmsprop, {"square": "square_avg", "mean": "grad_avg", "momentum": "momentum_buffer"}),
    "adam": Row(_adam, {"mean": "exp_avg", "square": "exp_avg_sq", "largest": "max_exp_avg_sq"}),
    "adamw": Row(
        lambda params, args: torch.optim.AdamW(params, **_common(args), betas=_betas(args)),
        {"mean": "exp_avg", "square": "exp_avg_sq"},
    ),
    "adamax": Row(
        lambda params, args: torch.optim.Adamax(params, **_common(args), betas=_betas(args)),
        {"mean": "exp_avg", "largest": "exp_inf"},
    ),
    "lion": Row(lambda params, args: Lion(params, **_common(args), betas=_betas(args)), {"mean": "exp_avg"}),
}
