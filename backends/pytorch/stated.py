"""Which formula of the catalogue one of torch's own optimizers states, as far as its class and its arguments say."""

from __future__ import annotations

from typing import Any

import torch

from lockstep.backends.errors import LockstepError
from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import Optimizer

_NAMES = {
    torch.optim.SGD: "sgd",
    torch.optim.Adagrad: "adagrad",
    torch.optim.Adadelta: "adadelta",
    torch.optim.RMSprop: "rmsprop",
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adamw",
    torch.optim.Adamax: "adamax",
    torch.optim.NAdam: "nadam",
    torch.optim.RAdam: "radam",
}

_ARGUMENTS = {
    "lr": "learning_rate",
    "eps": "epsilon",
    "alpha": "decay",
    "initial_accumulator_value": "initial_accumulator",
    "decoupled_weight_decay": "decoupled",
}
"""What torch calls otherwise than the catalogue; betas are two."""


def formula_of(optimizer: torch.optim.Optimizer) -> Optimizer | None:
    """The formula, or None where there is none; arguments that it does not have are left out, so hold it against the optimizer."""
    name = _NAMES.get(type(optimizer))
    if name is None or len(optimizer.param_groups) != 1:
        return None
    group: dict[str, Any] = dict(optimizer.param_groups[0])
    if "betas" in group:
        group["beta1"], group["beta2"] = group["betas"]
    stated = {_ARGUMENTS.get(key, key): value for key, value in group.items()}
    known = OPTIMIZERS[name].arguments
    try:
        return Optimizer(name, **{key: value for key, value in stated.items() if key in known})
    except LockstepError:  # an argument that the catalogue does not allow, a tensor for a learning rate say
        return None
