"""Normalising to mean 0 and variance 1, or to mean square 1, over some axes."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Param, Vjp
from lockstep.backends.problem import Array


def _last(x: Array) -> tuple[int, ...]:
    return (x.ndim - 1,)


def _all_but_last(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return np.mean(x, axis=axes, keepdims=True)


def normalise(epsilon: float, over_batch: bool) -> Function:
    """f(x) = (x − μ)/√(σ² + ε), μ and σ² over the last axis (layer norm), or over all others (batch norm)."""
    axes_of = _all_but_last if over_batch else _last

    def parts(x: Array) -> tuple[Array, Array]:
        """X − μ and √(σ² + ε); σ² from the centred values, which does not cancel where |μ| ≫ σ."""
        centred = x - _mean(x, axes_of(x))
        return centred, np.sqrt(_mean(centred * centred, axes_of(x)) + epsilon)

    @Function
    def f(x: Array, w: None = None) -> Array:
        centred, deviation = parts(x)
        return centred / deviation

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        """With f = c/s, dc = dx − mean dx and ds = mean(c dc)/s: Jᵀu = (u − mean u − f mean(u f))/s.

        The terms in mean c vanish, and c sums to 0, so that f mean(u f) needs no centring of its own.
        """
        centred, deviation = parts(x)
        value, axes = centred / deviation, axes_of(x)

        def vjp(u: Array) -> tuple[Array, None]:
            return (u - _mean(u, axes) - value * _mean(u * value, axes)) / deviation, None

        return vjp

    f.__name__ = "normalise"
    return f


def rms_normalise(epsilon: float) -> Function:
    """f(x) = x/√(mean x² + ε) over the last axis (Zhang, Sennrich, 2019)."""

    def root(x: Array) -> Array:
        return np.sqrt(_mean(x * x, _last(x)) + epsilon)

    @Function
    def f(x: Array, w: None = None) -> Array:
        return x / root(x)

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        """With f = x/r and dr = mean(x dx)/r: Jᵀu = (u − f mean(u f))/r."""
        r = root(x)
        value = x / r

        def vjp(u: Array) -> tuple[Array, None]:
            return (u - value * _mean(u * value, _last(x))) / r, None

        return vjp

    f.__name__ = "rms_normalise"
    return f


def standardise(epsilon: float) -> Function:
    """f(x, (m, v)) = (x − m)/√(v + ε) with given, constant m and v: batch norm in evaluation."""

    @Function
    def f(x: Array, statistics: Param) -> Array:
        mean, variance = statistics
        return (x - mean) / np.sqrt(variance + epsilon)

    @f.define_vjp
    def make_vjp(x: Array, statistics: Param) -> Vjp:
        """J_f(x) = diag(1/√(v + ε)); the statistics are constants."""

        def vjp(u: Array) -> tuple[Array, None]:
            return u / np.sqrt(statistics[1] + epsilon), None

        return vjp

    f.__name__ = "standardise"
    return f
