"""Penalties, composed of jax.numpy: Optax has none that are part of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from lockstep.backends.ops import Args
from lockstep.backends.problem import Problem

Penalty = Callable[[jax.Array], jax.Array]


def _l1(weight: float) -> Penalty:
    """jnp.abs has derivative +1 at 0; sign(w)·w has the stated 0."""
    return lambda w: weight * jnp.sum(jnp.sign(w) * w)


PENALTIES: Mapping[str, Callable[[Args], Penalty]] = {
    "l1": lambda args: _l1(float(args["weight"])),
    "l2": lambda args: lambda w: 0.5 * float(args["weight"]) * jnp.sum(w * w),
}


def adding(problem: Problem) -> Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array]:
    """What adds the problem's penalties to a loss, given the parameters by canonical name."""
    terms = [
        (PENALTIES[penalty.name](penalty.args), name)
        for penalty in problem.penalties
        for name in problem.penalised(penalty)
    ]

    def add(loss: jax.Array, parameters: Mapping[str, jax.Array]) -> jax.Array:
        for term, name in terms:
            loss = loss + term(parameters[name])
        return loss

    return add
