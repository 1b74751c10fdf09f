"""Functions of each element alone: rows of a formula and its derivative.

The VJP of all of them is u ⊙ f′(x). The formulas are those that neither overflow nor cancel at large |x|; each
stays within the dtype it is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.special import (
    bell,
    is_smooth,
    like,
    negative_part,
    normal_cdf,
    pi,
    through,
)
from lockstep.backends.numpy_vjp.special import sqrt as root
from lockstep.backends.problem import Array

Formula = Callable[[Array], Array]


def elementwise(name: str, formula: Formula, derivative: Formula) -> Function:
    """The Function of x alone whose Jacobian is diagonal with `derivative(x)`."""

    @Function
    def f(x: Array, w: None = None) -> Array:
        return formula(x)

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        def vjp(u: Array) -> tuple[Array, None]:
            return u * derivative(x), None

        return vjp

    f.__name__ = name
    return f


def _sigmoid(x: Array) -> Array:
    """1/(1 + e⁻ˣ), by e^−|x|, which cannot overflow."""
    if is_smooth(x):
        return 1 / (1 + np.exp(-x))
    small = np.exp(-np.abs(x))
    value: Array = np.where(x >= 0, 1, small) / (1 + small)
    return value


def _sigmoid_slope(x: Array) -> Array:
    """σ(x)σ(−x); 1 − σ(x) would cancel for large x."""
    return through(_sigmoid(x) * _sigmoid(-x), 1.0)


def _softplus(x: Array) -> Array:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _tanh_slope(x: Array) -> Array:
    """1/cosh² x = 4σ(2x)σ(−2x); 1 − tanh² x would cancel for large x."""
    slope: Array = 4 * _sigmoid_slope(2 * x)
    return slope


def _silu_slope(x: Array) -> Array:
    """(xσ)′ = σ(x)(1 + xσ(−x))."""
    return _sigmoid(x) * (1 + x * _sigmoid(-x))


def _elu(alpha: float) -> Formula:
    return lambda x: np.where(x > 0, x, alpha * np.expm1(negative_part(x)))


def _elu_slope(alpha: float) -> Formula:
    return lambda x: through(np.where(x > 0, 1, alpha * np.exp(negative_part(x))).astype(x.dtype), alpha)


exp = elementwise("exp", np.exp, np.exp)
log = elementwise("log", np.log, lambda x: 1 / x)
square = elementwise("square", lambda x: x * x, lambda x: 2 * x)
sqrt = elementwise("sqrt", np.sqrt, lambda x: 0.5 / np.sqrt(x))
absolute = elementwise("abs", np.abs, np.sign)
relu = elementwise("relu", lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1, 0).astype(x.dtype))
sigmoid = elementwise("sigmoid", _sigmoid, _sigmoid_slope)
softplus = elementwise("softplus", _softplus, _sigmoid)
tanh = elementwise("tanh", np.tanh, _tanh_slope)
log_sigmoid = elementwise("log_sigmoid", lambda x: -_softplus(-x), lambda x: _sigmoid(-x))
silu = elementwise("silu", lambda x: x * _sigmoid(x), _silu_slope)


def leaky_relu(slope: float) -> Function:
    """X where x > 0, else slope·x."""
    return elementwise(
        "leaky_relu",
        lambda x: np.where(x > 0, x, slope * x),
        lambda x: np.where(x > 0, 1, slope).astype(x.dtype),
    )


def elu(alpha: float) -> Function:
    """X where x > 0, else α(eˣ − 1)."""
    return elementwise("elu", _elu(alpha), _elu_slope(alpha))


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
"""α and λ of Klambauer et al., "Self-normalizing neural networks" (2017), as torch and JAX have them."""

selu = elementwise(
    "selu",
    lambda x: SELU_SCALE * _elu(SELU_ALPHA)(x),
    lambda x: SELU_SCALE * _elu_slope(SELU_ALPHA)(x),
)


gelu = elementwise(
    "gelu",
    lambda x: x * normal_cdf(x),
    lambda x: normal_cdf(x) + x * bell(x) * (1 / root(2 * pi(x))),
)


def _tanh_gelu_argument(x: Array) -> Array:
    """2√(2/π)(x + 0.044715 x³): twice the argument of the tanh, so that (1 + tanh)/2 is a sigmoid of it."""
    return 2 * root(2 / pi(x)) * (x + 0.044715 * x * x * x)


def _tanh_gelu_slope(x: Array) -> Array:
    if not is_smooth(x):
        x = np.clip(x, -40, 40)  # the slope is 0 or 1 beyond, and x² could overflow to 0·∞
    z = _tanh_gelu_argument(x)
    inner = 2 * root(2 / pi(x)) * (1 + 3 * like(x, 0.044715) * x * x)
    return _sigmoid(z) + x * _sigmoid_slope(z) * inner


gelu_tanh = elementwise("gelu_tanh", lambda x: x * _sigmoid(_tanh_gelu_argument(x)), _tanh_gelu_slope)
