"""Clipping: the gradients of all parameters, before the optimizer sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Arrays


def _by_norm(grads: Arrays, args: Args) -> Arrays:
    norm = np.sqrt(sum(np.sum(g * g) for g in grads.values())) + args["epsilon"]
    if norm <= args["limit"]:
        return grads
    return {name: g * (args["limit"] / norm) for name, g in grads.items()}


CLIPS: Mapping[str, Callable[[Arrays, Args], Arrays]] = {
    "none": lambda grads, args: grads,
    "norm": _by_norm,
    "value": lambda grads, args: {
        name: np.clip(g, -args["limit"], args["limit"]) for name, g in grads.items()
    },
}
