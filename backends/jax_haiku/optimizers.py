"""The optimizers as Optax transforms, and where Optax keeps their state.

An alias of Optax where it has the stated arguments; else a chain of Optax' parts; a transform of our own only where
no part does what is stated, and its docstring says what Optax does instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from backends.jax_haiku.schedules import Rate
from backends.ops import Args


class Row(NamedTuple):
    """How one optimizer is written in Optax.

    Attributes:
        build: (arguments, learning rate or schedule) -> transform.
        state: the registry's name of what is kept -> the field of the Optax state that holds it.
    """

    build: Callable[[Args, Rate], optax.GradientTransformation]
    state: Mapping[str, str] = {}


def _coupled(args: Args, transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """λ w added to the gradient before the transform sees it."""
    if not args["weight_decay"]:
        return transform
    return optax.chain(optax.add_decayed_weights(float(args["weight_decay"])), transform)


def _sgd(args: Args, rate: Rate) -> optax.GradientTransformation:
    momentum = float(args["momentum"])
    plain = optax.sgd(rate, momentum or None, bool(args["nesterov"]))
    damping = float(args["dampening"])
    if not momentum or not damping:
        return _coupled(args, plain)
    # optax.ema would damp the first gradient too; torch's first buffer is undamped.
    damp = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1.0, 1.0 - damping))
    return _coupled(args, optax.chain(damp, plain))


class RootOfSumState(NamedTuple):
    """The accumulator s, under the name that optax.scale_by_rss gives it."""

    sum_of_squares: Any


def _scale_by_root_of_sum(initial: float, epsilon: float) -> optax.GradientTransformation:
    """G / (√s + ε). optax.scale_by_rss has ε inside the root."""

    def init(params: Any) -> RootOfSumState:
        return RootOfSumState(jax.tree.map(lambda w: jnp.full_like(w, initial), params))

    def update(grads: Any, state: RootOfSumState, params: Any = None) -> tuple[Any, RootOfSumState]:
        total = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, grads)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), grads, total), RootOfSumState(total)

    return optax.GradientTransformation(init, update)


def _adagrad(args: Args, rate: Rate) -> optax.GradientTransformation:
    scaled = _scale_by_root_of_sum(float(args["initial_accumulator"]), float(args["epsilon"]))
    return _coupled(args, optax.chain(scaled, optax.scale_by_learning_rate(rate)))


def _adadelta(args: Args, rate: Rate) -> optax.GradientTransformation:
    return _coupled(args, optax.adadelta(rate, float(args["rho"]), float(args["epsilon"])))


def _rmsprop(args: Args, rate: Rate) -> optax.GradientTransformation:
    """Parts of optax.rmsprop: the alias puts the rate inside the momentum's trace."""
    scale = optax.scale_by_stddev if args["centered"] else optax.scale_by_rms
    parts = [scale(float(args["decay"]), float(args["epsilon"]), eps_in_sqrt=False)]
    if args["momentum"]:
        parts.append(optax.trace(float(args["momentum"])))
    return _coupled(args, optax.chain(*parts, optax.scale_by_learning_rate(rate)))


def _moments(args: Args) -> tuple[float, float, float]:
    return float(args["beta1"]), float(args["beta2"]), float(args["epsilon"])


def _scale_by_largest(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """AMSGrad with the bias corrected after the maximum; optax.scale_by_amsgrad, whose state it keeps, corrects before."""

    def init(params: Any) -> Any:
        mu, nu, largest = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))  # no buffer donated twice
        return optax.ScaleByAmsgradState(jnp.zeros([], jnp.int32), mu, nu, largest)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        mu = optax.tree_utils.tree_update_moment(grads, state.mu, beta1, 1)
        nu = optax.tree_utils.tree_update_moment(grads, state.nu, beta2, 2)
        largest = jax.tree.map(jnp.maximum, state.nu_max, nu)
        mean = optax.tree_utils.tree_bias_correction(mu, beta1, count)
        square = optax.tree_utils.tree_bias_correction(largest, beta2, count)
        scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mean, square)
        return scaled, optax.ScaleByAmsgradState(count, mu, nu, largest)

    return optax.GradientTransformation(init, update)


def _adam(args: Args, rate: Rate) -> optax.GradientTransformation:
    if args["amsgrad"]:
        plain = optax.chain(_scale_by_largest(*_moments(args)), optax.scale_by_learning_rate(rate))
    else:
        plain = optax.adam(rate, *_moments(args))
    return _coupled(args, plain)


def _adamw(args: Args, rate: Rate) -> optax.GradientTransformation:
    return optax.adamw(rate, *_moments(args), weight_decay=float(args["weight_decay"]))


def _lion(args: Args, rate: Rate) -> optax.GradientTransformation:
    beta1, beta2, decay = (float(args[name]) for name in ("beta1", "beta2", "weight_decay"))
    return optax.lion(rate, beta1, beta2, weight_decay=decay)


OPTIMIZERS: Mapping[str, Row] = {
    "sgd": Row(_sgd, {"momentum": "trace"}),
    "adagrad": Row(_adagrad, {"sum": "sum_of_squares"}),
    "adadelta": Row(_adadelta, {"square": "e_g", "delta": "e_x"}),
    "rmsprop": Row(_rmsprop, {"square": "nu", "mean": "mu", "momentum": "trace"}),
    "adam": Row(_adam, {"mean": "mu", "square": "nu", "largest": "nu_max"}),
    "adamw": Row(_adamw, {"mean": "mu", "square": "nu"}),
    "adamax": Row(
        lambda args, rate: _coupled(args, optax.adamax(rate, *_moments(args))),
        {"mean": "mu", "largest": "nu"},
    ),
    "lion": Row(_lion, {"mean": "mu"}),
}
