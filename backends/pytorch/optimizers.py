"""The optimizers of torch.optim with the stated arguments, and where torch keeps their state.

The class of torch.optim where it has the stated arguments; else one composed on our own base class
(`lockstep.backends.pytorch.composed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from lockstep.backends.ops import Args
from lockstep.backends.pytorch import composed
from lockstep.backends.pytorch.composed import Composed

Parameters = Iterable[nn.Parameter]
Scalars = Callable[[Args, int, torch.dtype], dict[str, torch.Tensor]]


class Row(NamedTuple):
    """How one optimizer is written in torch.

    Attributes:
        build: (parameters, arguments) -> optimizer.
        state: the registry's name of what is kept -> torch's key for it.
        turned: the same for a parameter that torch holds transposed, where it differs.
        scalars: (arguments, step, dtype) -> what else is kept after so many updates and depends on nothing else.
        starts_itself: arguments -> whether torch's first step differs from one that continues from zeros, so
            that its state must not be there before.
    """

    build: Callable[[Parameters, Args], torch.optim.Optimizer]
    state: Mapping[str, str] = {}
    turned: Mapping[str, str] = {}
    scalars: Scalars = lambda args, step, dtype: {}
    starts_itself: Callable[[Args], bool] = lambda args: False

    def key(self, slot: str, transposed: bool) -> str:
        """Torch's key for a slot of a parameter."""
        return self.turned.get(slot, self.state[slot]) if transposed else self.state[slot]


def _common(args: Args, own_decay: bool = False) -> dict[str, Any]:
    """The arguments that torch's classes call alike; `own_decay`: the class decouples its decay itself."""
    names = {"learning_rate": "lr", "epsilon": "eps"}
    common = {theirs: args[ours] for ours, theirs in names.items() if ours in args}
    if own_decay:
        return {**common, "weight_decay": args["weight_decay"], "decoupled_weight_decay": args["decoupled"]}
    return {**common, "weight_decay": 0.0 if args["decoupled"] else args["weight_decay"]}


def _betas(args: Args) -> tuple[float, float]:
    return float(args["beta1"]), float(args["beta2"])


def _shrinking(optimizer: torch.optim.Optimizer, args: Args) -> torch.optim.Optimizer:
    """With decoupled decay, w ← w (1 − η λ) before each step, for a class that has none of its own."""
    decay = float(args["weight_decay"])
    if decay and args["decoupled"]:
        optimizer.register_step_pre_hook(lambda optimizer, *arguments: _shrink(optimizer, decay))
    return optimizer


@torch.no_grad()
def _shrink(optimizer: torch.optim.Optimizer, decay: float) -> None:
    for group in optimizer.param_groups:
        for w in group["params"]:
            if w.grad is not None:
                w.mul_(1 - group["lr"] * decay)


def _sgd(params: Parameters, args: Args) -> torch.optim.Optimizer:
    extra: dict[str, Any] = {name: args[name] for name in ("momentum", "dampening", "nesterov")}
    return _shrinking(torch.optim.SGD(params, **_common(args), **extra), args)


def _adagrad(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["epsilon_inside"]:
        return Composed(params, composed.adagrad(args), args)
    initial = float(args["initial_accumulator"])
    return _shrinking(torch.optim.Adagrad(params, **_common(args), initial_accumulator_value=initial), args)


def _adadelta(params: Parameters, args: Args) -> torch.optim.Optimizer:
    return _shrinking(torch.optim.Adadelta(params, **_common(args), rho=float(args["rho"])), args)


def _rmsprop(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["epsilon_inside"] or (args["momentum"] and args["rate_in_trace"]):
        return Composed(params, composed.rmsprop(args), args)
    extra: dict[str, Any] = {
        "alpha": args["decay"],
        "centered": args["centered"],
        "momentum": args["momentum"],
    }
    return _shrinking(torch.optim.RMSprop(params, **_common(args), **extra), args)


def _adam(params: Parameters, args: Args) -> torch.optim.Optimizer:
    amsgrad = bool(args["amsgrad"])
    if args["epsilon_root"] or (amsgrad and args["amsgrad_corrected"]):
        return Composed(params, composed.adam(args), args)
    return torch.optim.Adam(params, **_common(args, own_decay=True), betas=_betas(args), amsgrad=amsgrad)


def _adamw(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["epsilon_root"]:
        return Composed(params, composed.adam(args), args)
    rate, epsilon, decay = (float(args[name]) for name in ("learning_rate", "epsilon", "weight_decay"))
    return torch.optim.AdamW(params, lr=rate, betas=_betas(args), eps=epsilon, weight_decay=decay)


def _adamax(params: Parameters, args: Args) -> torch.optim.Optimizer:
    return _shrinking(torch.optim.Adamax(params, **_common(args), betas=_betas(args)), args)


def _nadam(params: Parameters, args: Args) -> torch.optim.Optimizer:
    """optax.nadam's constant momentum is the limit of ψ → ∞, where 0.96^(ψ t) is 0 in double."""
    decay = float("inf") if args["constant_momentum"] else float(args["momentum_decay"])
    return torch.optim.NAdam(
        params, **_common(args, own_decay=True), betas=_betas(args), momentum_decay=decay
    )


def _momentum_product(args: Args, step: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Π after `step` updates, multiplied up as NAdam does.

    In a float64 problem it is float64, as it is for users whose default dtype is float64; NAdam would keep it in
    float32 otherwise, which costs 1.5e-8.
    """
    product = torch.ones((), dtype=dtype)
    for t in range(1, step + 1):
        growth = 0.0 if args["constant_momentum"] else 0.5 * 0.96 ** (t * args["momentum_decay"])
        product *= args["beta1"] * (1.0 - growth)
    return {"mu_product": product}


def _radam(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["epsilon_corrected"] or args["threshold"] != 5:
        return Composed(params, composed.radam(args), args)
    return torch.optim.RAdam(params, **_common(args, own_decay=True), betas=_betas(args))


def _rprop(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["stale"]:
        return Composed(params, composed.rprop(args), args)
    etas, sizes = (args["shrink"], args["grow"]), (args["smallest"], args["largest"])
    return torch.optim.Rprop(params, lr=args["learning_rate"], etas=etas, step_sizes=sizes)


def _adafactor(params: Parameters, args: Args) -> torch.optim.Optimizer:
    if args["epsilon_added"] or not args["relative_step"] or args["factored_from"] > 1:
        return Composed(params, composed.adafactor(args), args)
    return torch.optim.Adafactor(
        params,
        lr=args["learning_rate"],
        beta2_decay=-args["decay"],
        eps=(args["epsilon"] or None, args["epsilon_scale"]),
        d=args["clip"],
        weight_decay=args["weight_decay"],
    )


OPTIMIZERS: Mapping[str, Row] = {
    "sgd": Row(_sgd, {"momentum": "momentum_buffer"}, starts_itself=lambda args: not args["first_damped"]),
    "adagrad": Row(_adagrad, {"sum": "sum"}),
    "adadelta": Row(_adadelta, {"square": "square_avg", "delta": "acc_delta"}),
    "rmsprop": Row(_rmsprop, {"square": "square_avg", "mean": "grad_avg", "momentum": "momentum_buffer"}),
    "adam": Row(_adam, {"mean": "exp_avg", "square": "exp_avg_sq", "largest": "max_exp_avg_sq"}),
    "adamw": Row(_adamw, {"mean": "exp_avg", "square": "exp_avg_sq"}),
    "adamax": Row(_adamax, {"mean": "exp_avg", "largest": "exp_inf"}),
    "nadam": Row(_nadam, {"mean": "exp_avg", "square": "exp_avg_sq"}, scalars=_momentum_product),
    "radam": Row(_radam, {"mean": "exp_avg", "square": "exp_avg_sq"}),
    "rprop": Row(_rprop, {"previous": "prev", "size": "step_size"}),
    "adafactor": Row(
        _adafactor,
        {"row": "row_var", "column": "col_var", "square": "variance"},
        turned={"row": "col_var", "column": "row_var"},
    ),
    "lion": Row(lambda params, args: Composed(params, composed.lion(args), args), {"mean": "exp_avg"}),
}
