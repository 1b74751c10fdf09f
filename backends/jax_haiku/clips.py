"""Clipping as Optax transforms, to stand before the optimizer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lockstep.backends.ops import Args


def _by_norm(args: Args) -> optax.GradientTransformation:
    limit, epsilon = float(args["limit"]), float(args["epsilon"])
    return _with_epsilon(limit, epsilon) if epsilon else optax.clip_by_global_norm(limit)


def _with_epsilon(limit: float, epsilon: float) -> optax.GradientTransformation:
    """Torch's convention, g min(1, L/(‖g‖ + ε)); optax.clip_by_global_norm has no ε."""

    def clip(grads: Any, params: Any = None) -> Any:
        factor = jnp.minimum(1.0, limit / (optax.tree_utils.tree_norm(grads) + epsilon))
        return jax.tree.map(lambda g: g * factor, grads)

    return optax.stateless(clip)


CLIPS: Mapping[str, Callable[[Args], optax.GradientTransformation]] = {
    "none": lambda args: optax.identity(),
    "norm": _by_norm,
    "value": lambda args: optax.clip(float(args["limit"])),
}
