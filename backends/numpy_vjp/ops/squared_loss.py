"""The squared error, summed or averaged."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.problem import Array


@Function
def squared_loss(y_pred: Array, y: Array) -> Array:
    """J(y_pred) = Σ (y_pred − y)²; the target y is a constant."""
    value: Array = np.sum((y_pred - y) ** 2)
    return value


@squared_loss.define_vjp
def squared_loss_make_vjp(y_pred: Array, y: Array) -> Vjp:
    """J_f(y_pred)ᵀu = 2 (y_pred − y) u. No derivative for y: it is data, and nothing updates it."""

    def vjp(u: Array) -> tuple[Array, None]:
        return 2 * (y_pred - y) * u, None

    return vjp


@Function
def mean_squared_loss(y_pred: Array, y: Array) -> Array:
    """J(y_pred) = (1/n) Σ (y_pred − y)² over all n elements; the target y is a constant."""
    return squared_loss(y_pred, y) / np.size(y_pred)


@mean_squared_loss.define_vjp
def mean_squared_loss_make_vjp(y_pred: Array, y: Array) -> Vjp:
    """The sum's VJP at u/n."""
    vjp_of_sum = squared_loss.make_vjp(y_pred, y)

    def vjp(u: Array) -> tuple[Array, None]:
        return vjp_of_sum(u / np.size(y_pred))

    return vjp
