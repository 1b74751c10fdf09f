"""Clipping: gradients of all parameters to gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Arrays

ClipTransform = Callable[[Arrays], Arrays]


def by_norm(limit: float, epsilon: float) -> ClipTransform:
    """G L/(‖g‖ + ε) where that is shorter, with ‖g‖² = Σ g² over all parameters (Pascanu et al., 2013)."""

    def clip(grads: Arrays) -> Arrays:
        norm = np.sqrt(sum(np.sum(grad * grad) for grad in grads.values()))
        if norm + epsilon <= limit:
            return grads
        return {name: grad * (limit / (norm + epsilon)) for name, grad in grads.items()}

    return clip


def by_value(limit: float) -> ClipTransform:
    """Each element to [−L, L]."""
    return lambda grads: {name: np.clip(grad, -limit, limit) for name, grad in grads.items()}


CLIPS: Mapping[str, Callable[[Args], ClipTransform]] = {
    "none": lambda args: lambda grads: grads,
    "norm": lambda args: by_norm(args["limit"], args["epsilon"]),
    "value": lambda args: by_value(args["limit"]),
}
