"""The losses: optax' own where it has one with the right arguments, else composed of jax.numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from lockstep.backends.ops import Args

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def _reduced(loss: Loss, args: Args) -> Loss:
    """The sum or mean of what `loss` gives: elements, or examples where it has summed the last axis itself."""
    reduce = {"sum": jnp.sum, "mean": jnp.mean}[str(args["reduction"])]
    return lambda prediction, target: reduce(loss(prediction, target))


def _absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """sign(e)·e: jnp.abs has derivative +1 at 0, this has the stated 0."""
    e = prediction - target
    return jnp.sign(e) * e


def _huber(delta: float) -> Loss:
    return lambda prediction, target: optax.huber_loss(prediction, target, delta=delta)


def _quantile(q: float) -> Loss:
    """Optax has none; at a tie jnp.maximum halves the derivative between both sides, as stated."""
    return lambda p, y: jnp.maximum(q * (y - p), (q - 1) * (y - p))


def _gaussian(epsilon: float) -> Loss:
    """Optax has none. Log v is clamped, and its derivative in s is eˢ/v, as if v alone had been clamped."""
    floor = math.log(epsilon)

    def loss(prediction: jax.Array, y: jax.Array) -> jax.Array:
        m, s = jnp.split(prediction, 2, axis=-1)
        through = jax.lax.stop_gradient(jnp.exp(jnp.minimum(0.0, s - floor)))
        t = jax.lax.stop_gradient(jnp.maximum(s, floor)) + through * (s - jax.lax.stop_gradient(s))
        return 0.5 * (t + (y - m) ** 2 * jnp.exp(-t))

    return loss


LOSSES: Mapping[str, Callable[[Args], Loss]] = {
    "squared_error": lambda args: _reduced(optax.squared_error, args),
    "half_squared_error": lambda args: _reduced(optax.l2_loss, args),
    "absolute_error": lambda args: _reduced(_absolute_error, args),
    "huber": lambda args: _reduced(_huber(float(args["delta"])), args),
    "smooth_l1": lambda args: _reduced(
        lambda p, y: _huber(float(args["beta"]))(p, y) / float(args["beta"]), args
    ),
    "log_cosh": lambda args: _reduced(optax.log_cosh, args),
    "quantile": lambda args: _reduced(_quantile(float(args["q"])), args),
    "poisson": lambda args: _reduced(lambda p, y: jnp.exp(p) - y * p, args),  # optax has none
    "logistic": lambda args: _reduced(optax.sigmoid_binary_cross_entropy, args),
    "softmax_cross_entropy": lambda args: _reduced(optax.softmax_cross_entropy, args),
    "gaussian": lambda args: _reduced(_gaussian(float(args["epsilon"])), args),
}
