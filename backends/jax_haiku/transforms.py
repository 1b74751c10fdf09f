"""Transforms of our own, each where no part of Optax does what is stated; each keeps the state of Optax' nearest part."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lockstep.backends.ops import Args


def scale_by_root_of_sum(initial: float, epsilon: float) -> optax.GradientTransformation:
    """G / (√s + ε). optax.scale_by_rss has ε inside the root."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        total = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, grads)
        scaled = jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), grads, total)
        return scaled, optax.ScaleByRssState(total)

    return optax.GradientTransformation(optax.scale_by_rss(initial).init, update)


def scale_by_largest(
    beta1: float, beta2: float, epsilon: float, epsilon_root: float
) -> optax.GradientTransformation:
    """AMSGrad with the bias corrected after the maximum; optax.scale_by_amsgrad corrects before."""

    def init(params: Any) -> Any:
        mu, nu, largest = (jax.tree.map(jnp.zeros_like, params) for _ in range(3))  # no buffer donated twice
        return optax.ScaleByAmsgradState(jnp.zeros([], jnp.int32), mu, nu, largest)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count, mu, nu = _moments(grads, state, beta1, beta2)
        largest = jax.tree.map(jnp.maximum, state.nu_max, nu)
        mean = optax.tree_utils.tree_bias_correction(mu, beta1, count)
        square = optax.tree_utils.tree_bias_correction(largest, beta2, count)
        scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v + epsilon_root) + epsilon), mean, square)
        return scaled, optax.ScaleByAmsgradState(count, mu, nu, largest)

    return optax.GradientTransformation(init, update)


def rectify(beta1: float, beta2: float, epsilon: float, threshold: float) -> optax.GradientTransformation:
    """RAdam with ε added to √v. optax.scale_by_radam adds it to √v̂."""
    longest = 2 / (1 - beta2) - 1

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count, mu, nu = _moments(grads, state, beta1, beta2)
        power = beta2**count
        length = longest - 2 * count * power / (1 - power)
        trust = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        mean = optax.tree_utils.tree_bias_correction(mu, beta1, count)
        factor = jnp.sqrt(trust * (1 - power))

        def scaled(m: Any, v: Any) -> Any:
            return jnp.where(length > threshold, factor.astype(v.dtype) * m / (jnp.sqrt(v) + epsilon), m)

        return jax.tree.map(scaled, mean, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_radam().init, update)


class NadamState(NamedTuple):
    """Adam's, and Π: the product of the momenta so far, a function of the count."""

    count: Any
    mu: Any
    nu: Any
    momentum_product: Any


def _momentum(count: Any, beta1: float, momentum_decay: float) -> Any:
    return beta1 * (1 - 0.5 * 0.96 ** (count.astype(jnp.result_type(float)) * momentum_decay))


def momentum_product(args: Args, step: int) -> jax.Array:
    """Π after `step` updates, multiplied up as the updates do."""
    beta1, decay = args["beta1"], args["momentum_decay"]
    one = jnp.ones([], jnp.result_type(float))
    product: jax.Array = jax.jit(
        lambda last: jax.lax.fori_loop(1, last + 1, lambda t, p: p * _momentum(t, beta1, decay), one)
    )(jnp.asarray(step, jnp.int32))
    return product


def scale_by_growing_momentum(
    beta1: float, beta2: float, epsilon: float, momentum_decay: float
) -> optax.GradientTransformation:
    """NAdam with Dozat's schedule of the momentum, as torch. optax.nadam's momentum is constant."""

    def init(params: Any) -> NadamState:
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return NadamState(jnp.zeros([], jnp.int32), mu, nu, jnp.ones([], jnp.result_type(float)))

    def update(grads: Any, state: NadamState, params: Any = None) -> tuple[Any, NadamState]:
        count, mu, nu = _moments(grads, state, beta1, beta2)
        now, later = (_momentum(one, beta1, momentum_decay) for one in (count, count + 1))
        product = state.momentum_product * now
        square = optax.tree_utils.tree_bias_correction(nu, beta2, count)
        here, ahead = (1 - now) / (1 - product), later / (1 - product * later)
        scaled = jax.tree.map(
            lambda g, m, v: (here * g + ahead * m) / (jnp.sqrt(v) + epsilon), grads, mu, square
        )
        return scaled, NadamState(count, mu, nu, product)

    return optax.GradientTransformation(init, update)


def step_by_sign(
    rate: float, shrink: float, grow: float, smallest: float, largest: float
) -> optax.GradientTransformation:
    """Rprop that takes each step when it is made. optax.scale_by_rprop takes that of the update before."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        turn = jax.tree.map(jnp.multiply, grads, state.prev_updates)

        def resized(t: Any, size: Any) -> Any:
            return jnp.clip(size * jnp.where(t > 0, grow, jnp.where(t < 0, shrink, 1.0)), smallest, largest)

        sizes = jax.tree.map(resized, turn, state.step_sizes)
        saved = jax.tree.map(lambda t, g: jnp.where(t < 0, 0, g), turn, grads)
        steps = jax.tree.map(lambda size, g: -size * jnp.sign(g), sizes, saved)
        return steps, optax.ScaleByRpropState(sizes, saved)

    return optax.GradientTransformation(optax.scale_by_rprop(rate).init, update)


class _Factors(NamedTuple):
    """What optax.scale_by_factored_rms keeps of one parameter; of what it does not keep, an array of shape (1,)."""

    row: Any
    column: Any
    square: Any


def scale_by_bounded_factors(
    factored_from: int, decay: float, epsilon: float
) -> optax.GradientTransformation:
    """Adafactor with √v at least ε, as torch. optax.scale_by_factored_rms adds its ε to g² instead."""
    plain = optax.scale_by_factored_rms(min_dim_size_to_factor=factored_from)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        keep = power_decay(state.count, decay)
        saved = (state.v_row, state.v_col, state.v)
        scaled = jax.tree.map(lambda g, *old: _bounded(g, _Factors(*old), keep, epsilon), grads, *saved)
        updates, rows, columns, squares = (
            jax.tree.map(operator.itemgetter(index), scaled, is_leaf=lambda one: isinstance(one, list))
            for index in range(4)
        )
        return updates, state._replace(count=state.count + 1, v_row=rows, v_col=columns, v=squares)

    return optax.GradientTransformation(plain.init, update)


def _bounded(g: Any, old: _Factors, keep: Any, epsilon: float) -> list[Any]:
    """One parameter's update and its new row, column and square."""
    least = epsilon or np.finfo(g.dtype).eps.item()
    if old.square.shape == g.shape:
        estimate = square = keep * old.square + (1 - keep) * g * g
        new = old._replace(square=square)
    else:
        longer = int(g.shape[0] <= g.shape[1])  # optax' row is the mean over the longer axis
        row = keep * old.row + (1 - keep) * jnp.mean(g * g, axis=longer)
        column = keep * old.column + (1 - keep) * jnp.mean(g * g, axis=1 - longer)
        outer = jnp.expand_dims(row, longer) * jnp.expand_dims(column, 1 - longer)
        estimate = outer / jnp.maximum(jnp.mean(row), least)
        new = old._replace(row=row, column=column)
    return [g / jnp.sqrt(jnp.maximum(estimate, least * least)), *new]


def power_decay(count: Any, exponent: float) -> Any:
    """1 − t^−c in the default dtype; optax' own forms it in float32, even under x64."""
    return 1 - jnp.asarray(count + 1, jnp.result_type(float)) ** -exponent


def _moments(grads: Any, state: Any, beta1: float, beta2: float) -> tuple[Any, Any, Any]:
    """The next count and the averages of the gradients and of their squares."""
    mu = optax.tree_utils.tree_update_moment(grads, state.mu, beta1, 1)
    nu = optax.tree_utils.tree_update_moment(grads, state.nu, beta2, 2)
    return state.count + 1, mu, nu
