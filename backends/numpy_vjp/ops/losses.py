"""Losses of one element: rows of a formula and its derivative in the prediction, summed or averaged.

The targets y are constants. Formulas and kinks as `lockstep.backends.ops.LOSSES` states them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.ops.elementwise import sigmoid, softplus
from lockstep.backends.numpy_vjp.ops.softmax import log_softmax, softmax
from lockstep.backends.numpy_vjp.special import like, log, through
from lockstep.backends.problem import Array

Formula = Callable[[Array, Array], Array]


def reduced(
    name: str, formula: Formula, derivative: Formula, reduction: str, count: Callable[[Array], int] = np.size
) -> Function:
    """J(p) = Σ formula(p, y), over n = count(p) where the reduction is the mean."""

    def divisor(p: Array) -> int:
        return count(p) if reduction == "mean" else 1

    @Function
    def loss(p: Array, y: Array) -> Array:
        return np.sum(formula(p, y)) / divisor(p)

    @loss.define_vjp
    def make_vjp(p: Array, y: Array) -> Vjp:
        def vjp(u: Array) -> tuple[Array, None]:
            return u / divisor(p) * derivative(p, y), None

        return vjp

    loss.__name__ = name
    return loss


def half_squared_error(reduction: str) -> Function:
    """e²/2."""
    return reduced("half_squared_error", lambda p, y: 0.5 * (p - y) ** 2, lambda p, y: p - y, reduction)


def absolute_error(reduction: str) -> Function:
    """|e|."""
    return reduced("absolute_error", lambda p, y: np.abs(p - y), lambda p, y: np.sign(p - y), reduction)


def huber(delta: float, reduction: str) -> Function:
    """e²/2 near, δ(|e| − δ/2) far: with c = min(|e|, δ) it is c(|e| − c/2), and its derivative clip(e, ±δ)."""

    def formula(p: Array, y: Array) -> Array:
        far = np.abs(p - y)
        near = np.minimum(far, delta)
        return near * (far - 0.5 * near)

    return reduced("huber", formula, lambda p, y: through(np.clip(p - y, -delta, delta), delta), reduction)


def smooth_l1(beta: float, reduction: str) -> Function:
    """Huber's with δ = β, over β."""

    def formula(p: Array, y: Array) -> Array:
        far = np.abs(p - y)
        near = np.minimum(far, beta)
        return near * (far - 0.5 * near) / beta

    return reduced(
        "smooth_l1", formula, lambda p, y: through(np.clip(p - y, -beta, beta), beta) / beta, reduction
    )


def log_cosh(reduction: str) -> Function:
    """Log cosh e = |e| + log(1 + e^−2|e|) − log 2; cosh itself would overflow near 710."""

    def formula(p: Array, y: Array) -> Array:
        size = np.abs(p - y)
        return size + np.log1p(np.exp(-2 * size)) - log(like(size, 2))

    return reduced("log_cosh", formula, lambda p, y: through(np.tanh(p - y), 1.0), reduction)


def quantile(q: float, reduction: str) -> Function:
    """max(q r, (q − 1) r) with r = y − p; dJ/dp is −q below the target, 1 − q above, their mean at it."""

    def formula(p: Array, y: Array) -> Array:
        return np.maximum(q * (y - p), (q - 1) * (y - p))

    def derivative(p: Array, y: Array) -> Array:
        return (0.5 - q + 0.5 * np.sign(p - y)).astype(np.result_type(p))

    return reduced("quantile", formula, derivative, reduction)


def poisson(reduction: str) -> Function:
    """eᵖ − y p."""
    return reduced("poisson", lambda p, y: np.exp(p) - y * p, lambda p, y: np.exp(p) - y, reduction)


def logistic(reduction: str) -> Function:
    """log(1 + eᵖ) − y p, by the softplus that cannot overflow."""
    return reduced(
        "logistic",
        lambda p, y: through(softplus(p) - y * p, np.abs(p)),
        lambda p, y: sigmoid(p) - y,
        reduction,
    )


def softmax_cross_entropy(reduction: str) -> Function:
    """−Σ y log softmax(p); the mean is over examples, not elements."""
    return reduced(
        "softmax_cross_entropy",
        lambda p, y: -y * log_softmax(p),
        lambda p, y: softmax(p) * np.sum(y, axis=-1, keepdims=True) - y,
        reduction,
        count=len,
    )


def gaussian(epsilon: float, reduction: str) -> Function:
    """(log v + e²/v)/2 with p = (m, s) along the last axis, e = y − m and v = max(eˢ, ε) = eᵗ, t = max(s, log ε).

    In t no exponential overflows. The derivative in v is that of the formula, clamped or not, and dv/ds = eˢ:
    dJ/dm = −e/v and dJ/ds = (1 − e²/v)(eˢ/v)/2, with eˢ/v = exp(min(0, s − log ε)).
    """
    floor = log(epsilon)

    def formula(p: Array, y: Array) -> Array:
        m, s = np.split(p, 2, axis=-1)
        t = np.maximum(s, floor)
        return 0.5 * (t + (y - m) ** 2 * np.exp(-t))

    def derivative(p: Array, y: Array) -> Array:
        m, s = np.split(p, 2, axis=-1)
        precision = np.exp(-np.maximum(s, floor))
        through = np.exp(np.minimum(0.0, s - floor))
        in_s = 0.5 * (1 - (y - m) ** 2 * precision) * through
        return np.concatenate([(m - y) * precision, in_s], axis=-1)

    return reduced("gaussian", formula, derivative, reduction, count=lambda p: np.size(p) // 2)
