"""What every function and loss owes: the stated formula in 50 digits, and the largest intermediate that it passes.

A value may be off by 8 ULP of the largest intermediate of its stated formula. A sum over n terms may be off by
γₙ Σ|terms| besides, with γₙ = n u / (1 − n u) and u half an epsilon. Below finfo.tiny all are compared absolutely,
since JAX flushes denormals. Where a framework is worse, `TAILS` (accuracy_tails.py) says where, how far and why.

A new function needs a row in `ROWS`: ``pointwise`` if it acts on each element alone, otherwise a function
(x, params, u) -> {"f": Owed, "x": Owed, parameter: Owed} over object arrays of `EXACT.mpf`. A new loss needs a
row in `LOSS_ROWS`. A test compares both with the registry.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mpmath
import numpy as np

EXACT = mpmath.ctx_mp.MPContext()
"""Fifty digits. Its numbers have the methods that NumPy calls on the elements of an object array."""
EXACT.dps = 50
for _name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "erfc"):
    setattr(EXACT.mpf, _name, functools.partialmethod(lambda self, f: f(self), getattr(EXACT, _name)))

exact = np.frompyfunc(lambda value: EXACT.mpf(float(value)), 1, 1)
"""Floats as fifty-digit numbers, exactly."""

exp, expm1, log, log1p, sqrt, cosh, tanh = (
    getattr(EXACT, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "cosh", "tanh")
)


class Owed(NamedTuple):
    """What one stage owes, element by element.

    Attributes:
        truth: the value in fifty digits.
        largest: the largest intermediate; 8 of its ULPs are allowed.
        terms: Σ|terms| of a reduction.
        count: how many terms.
        factor: what multiplies an intermediate that may be flushed; 1 where the value itself may be.
    """

    truth: Any
    largest: Any
    terms: Any = 0
    count: int = 0
    factor: Any = 1

    def allowed(self, dtype: str, beyond: Any = 0, sides: int = 1) -> np.ndarray:
        """The allowed absolute error.

        Args:
            dtype: of the value.
            beyond: a larger intermediate, where the backend's own formula passes one.
            sides: 2 between two backends, each of which may sum in its own order.
        """
        info = np.finfo(dtype)
        top = float(np.nextafter(info.max, np.zeros((), dtype)))
        largest = np.maximum(_floats(self.largest), beyond)
        unbounded, largest = np.isinf(largest), np.clip(largest, float(info.tiny), top)
        n_u = self.count * float(info.eps) / 2
        # Below the smallest normal number: absolutely. Of a sum each term may have been flushed.
        flushed = float(info.tiny) * np.clip(_floats(self.factor), 1, None) * max(1, self.count)
        with np.errstate(over="ignore"):
            return (
                np.where(unbounded, np.inf, 8 * np.spacing(largest.astype(dtype)).astype(float))
                + sides * n_u / (1 - n_u) * _floats(self.terms)
                + np.where(np.abs(_floats(self.truth)) <= flushed, flushed, 0)
            )

    def error(self, found: np.ndarray) -> np.ndarray:
        """|found − truth|; 0 where both are beyond the largest number (within 8 ULP), infinite where one is."""
        info = np.finfo(found.dtype)
        edge = EXACT.mpf(float(info.max)) * (1 - 8 * EXACT.mpf(float(info.eps)))

        def distance(found: float, truth: Any) -> float:
            if np.isinf(found):
                return 0.0 if abs(truth) >= edge and (truth > 0) == (found > 0) else np.inf
            return np.inf if np.isnan(found) else float(abs(EXACT.mpf(found) - truth))

        return _floats(np.frompyfunc(distance, 2, 1)(found.astype(float), self.truth))


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values).astype(float)


Judge = Callable[[Any, Mapping[str, Any], Any], dict[str, Owed]]
"""(x, params, u), object arrays -> what the stages "f", "x" (the VJP) and each parameter's gradient owe."""


def _real(share: np.ndarray) -> np.ndarray:
    """Half of the targets 0, so that the prediction is the error."""
    return np.where(share < 0.5, 0, 8 * share - 6)


def _unit(share: np.ndarray) -> np.ndarray:
    """A third each 0, 1 and between."""
    return np.clip(3 * share - 1, 0, 1)


def _distribution(share: np.ndarray) -> np.ndarray:
    return share / share.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One function with one choice of arguments.

    Attributes:
        name: the registry's.
        owes: see `Judge`; for a loss, see `LossJudge`.
        args: arguments other than the defaults.
        shape: of one example.
        low, high: the domain, in magnitude where it is signed: exponents of 2 as shares of the dtype's range.
        positive: the domain is x > 0.
        kinks: points, besides 0, to sample exactly and from both sides.
        dense: intervals to sample closely.
        target: of a loss: numbers in [0, 1] -> targets.
        rowwise: of a loss: its terms depend on the whole last axis.
    """

    name: str
    owes: Any
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] = (4,)
    low: float = 1.0
    high: float = 1.0
    positive: bool = False
    kinks: tuple[float, ...] = ()
    dense: tuple[tuple[float, float], ...] = ()
    target: Callable[[np.ndarray], np.ndarray] = _real
    rowwise: bool = False


def _one(x: Any) -> Any:
    return np.ones_like(x)


def _line(x: Any) -> Any:
    """|x| as far as it matters: a thousand times further eˣ is 0 everywhere."""
    return np.minimum(abs(x), 1e3)


def pointwise(
    values: Callable[[Any], tuple[Any, Any, Any, Any]], factor: Callable[[Any], Any] = _one
) -> Judge:
    """A function of each element: x -> (f, its largest intermediate, f′, its largest intermediate)."""

    values = functools.lru_cache(maxsize=64)(values)  # drawn examples are filled up with zeros

    def owes(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
        f, largest, slope, steepest = np.frompyfunc(values, 1, 4)(x)
        return {
            "f": Owed(f, abs(largest), factor=factor(x)),
            "x": Owed(u * slope, abs(u) * abs(steepest), factor=factor(x)),
        }

    return owes


def _sigma(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def _exp(x: Any) -> tuple[Any, ...]:
    e = exp(x)
    return e, e, e, e


def _log(x: Any) -> tuple[Any, ...]:
    return log(x), log(x), 1 / x, 1 / x


def _square(x: Any) -> tuple[Any, ...]:
    return x * x, x * x, 2 * x, 2 * x


def _sqrt(x: Any) -> tuple[Any, ...]:
    root = sqrt(x)
    return root, root, 1 / (2 * root), 1 / (2 * root)


def _sign(x: Any) -> int:
    return int(x > 0) - int(x < 0)


def _abs(x: Any) -> tuple[Any, ...]:
    return abs(x), x, _sign(x), 1


def _leaky(slope: float) -> Callable[[Any], tuple[Any, ...]]:
    return lambda x: (x, x, 1, 1) if x > 0 else (slope * x, slope * x, slope, slope)


def _elu(alpha: float, scale: float = 1.0) -> Callable[[Any], tuple[Any, ...]]:
    def values(x: Any) -> tuple[Any, ...]:
        f, slope = (x, EXACT.one) if x > 0 else (alpha * expm1(x), alpha * exp(x))
        return scale * f, scale * f, scale * slope, scale * slope

    return values


def _erfc(x: Any) -> Any:
    """Beyond 10⁴ it is 0 or 2 to more than a million digits, which mpmath cannot count."""
    return EXACT.erfc(x) if abs(x) < 1e4 else EXACT.mpf(0 if x > 0 else 2)


def _gelu(x: Any) -> tuple[Any, ...]:
    """xΦ, and Φ + xφ: both factors count as they are, so that the left tail is judged by its own size."""
    cdf = _erfc(-x / sqrt(2)) / 2
    density = exp(-x * x / 2) / sqrt(2 * EXACT.pi)
    return x * cdf, x * cdf, cdf + x * density, max(cdf, abs(x) * density)


def _gelu_tanh(x: Any) -> tuple[Any, ...]:
    """x(1 + tanh z)/2, whose sum passes 1; its slope passes 1 − tanh² z, whose difference passes 1."""
    root = sqrt(2 / EXACT.pi)
    z, inner = root * (x + 0.044715 * x**3), root * (1 + 3 * (0.044715 * x * x))
    half, slope = _sigma(2 * z), 2 * _sigma(2 * z) * _sigma(-2 * z) * x * inner
    return x * half, x / 2, half + slope, max(EXACT.one, abs(x) * inner / 2)


def _silu(x: Any) -> tuple[Any, ...]:
    """xσ, and σ(1 + x(1 − σ)), whose 1 − σ passes 1."""
    s = _sigma(x)
    return x * s, x * s, s * (1 + x * _sigma(-x)), s * max(1, abs(x))


def _sigmoid(x: Any) -> tuple[Any, ...]:
    """σ, and σ(1 − σ), whose difference passes 1."""
    return _sigma(x), _sigma(x), _sigma(x) * _sigma(-x), _sigma(x)


def _tanh(x: Any) -> tuple[Any, ...]:
    """tanh, and 1 − tanh², whose difference passes 1."""
    return tanh(x), tanh(x), 1 / cosh(x) ** 2, 1


def _softplus(x: Any) -> tuple[Any, ...]:
    f = max(x, EXACT.zero) + log1p(exp(-abs(x)))
    return f, f, _sigma(x), _sigma(x)


def _log_sigmoid(x: Any) -> tuple[Any, ...]:
    f, _, slope, _ = _softplus(-x)
    return -f, f, slope, slope


def _dot(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    w = params["w"]
    return {
        "f": _products(x, w),
        "x": _products(u, w.T),
        "w": _products(x.T, u),
    }


def _products(a: Any, b: Any) -> Owed:
    return Owed(a @ b, 0, abs(a) @ abs(b), a.shape[1])


def _add(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    return {"f": Owed(x + params["b"], abs(x + params["b"])), "x": Owed(u, abs(u)), "b": _rows(u)}


def _rows(terms: Any) -> Owed:
    """A sum over the batch."""
    return Owed(terms.sum(0), abs(terms).max(0), abs(terms).sum(0), len(terms))


def _linear(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    dot = _dot(x, params, u)
    product = dot["f"]
    f = Owed(
        product.truth + params["b"], 0, product.terms + abs(params["b"]), product.count + 1
    )  # the bias is one more term
    return {**dot, "f": f, "b": _rows(u)}


def _scale(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    s = params["s"]
    return {"f": Owed(x * s, abs(x * s)), "x": Owed(u * s, abs(u * s)), "s": _rows(u * x)}


def _shifted(x: Any) -> tuple[Any, Any, Any]:
    """z = x − max x, p = softmax x, and Σ e^z."""
    z = x - x.max(-1, keepdims=True)
    e = np.exp(z)
    return z, e / e.sum(-1, keepdims=True), e.sum(-1, keepdims=True)


def _softmax(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    """A rounding of z is |z| roundings of e^z: an intermediate of that size."""
    z, p, _ = _shifted(x)
    k, weight = x.shape[-1], np.maximum(1, abs(z))
    mean = (p * u).sum(-1, keepdims=True)
    size = (p * abs(u) * weight).sum(-1, keepdims=True)
    return {
        "f": Owed(p, p * weight, p, k),
        "x": Owed(
            p * (u - mean), p * np.maximum(weight * abs(u), size), p * (abs(u) + 2 * size), k, abs(u) + size
        ),
    }


def _log_softmax(x: Any, params: Mapping[str, Any], u: Any) -> dict[str, Owed]:
    z, p, total = _shifted(x)
    k, weight = x.shape[-1], np.maximum(1, abs(z))
    summed, size = u.sum(-1, keepdims=True), abs(u).sum(-1, keepdims=True)
    return {
        "f": Owed(z - np.log(total), np.maximum(abs(z), np.log(total)), np.ones_like(z), k),
        "x": Owed(u - p * summed, np.maximum(abs(u), p * weight * abs(summed)), 2 * p * size, k),
    }


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

ROWS: Mapping[str, Row] = {
    "dot": Row("dot", _dot, {"size": 3}, low=0.2, high=0.2),
    "add": Row("add", _add, high=0.9),
    "linear": Row("linear", _linear, {"size": 3}, low=0.2, high=0.2),
    "scale": Row("scale", _scale, high=0.9),
    "exp": Row("exp", pointwise(_exp)),
    "log": Row("log", pointwise(_log), positive=True, kinks=(1.0,)),
    "square": Row("square", pointwise(_square)),
    "sqrt": Row("sqrt", pointwise(_sqrt), positive=True),
    "abs": Row("abs", pointwise(_abs)),
    "relu": Row("relu", pointwise(_leaky(0))),
    "leaky_relu": Row("leaky_relu", pointwise(_leaky(0.3)), {"slope": 0.3}),
    "elu": Row("elu", pointwise(_elu(0.5)), {"alpha": 0.5}),
    "selu": Row("selu", pointwise(_elu(SELU_ALPHA, SELU_SCALE))),
    "gelu": Row("gelu", pointwise(_gelu, lambda x: np.minimum(x * x, 2e3))),
    "gelu-tanh": Row("gelu", pointwise(_gelu_tanh, _line), {"approximate": "tanh"}, dense=((7.05, 7.35),)),
    "silu": Row("silu", pointwise(_silu, _line)),
    "sigmoid": Row("sigmoid", pointwise(_sigmoid)),
    "tanh": Row("tanh", pointwise(_tanh), kinks=(0.625, 1.0), dense=((18.6, 20.0),)),
    "softplus": Row("softplus", pointwise(_softplus), kinks=(20.0,)),
    "log_sigmoid": Row("log_sigmoid", pointwise(_log_sigmoid), kinks=(-20.0,)),
    "softmax": Row("softmax", _softmax, high=0.9),
    "log_softmax": Row("log_softmax", _log_softmax, high=0.9),
}

LossJudge = Callable[[Any, Any], dict[str, Owed]]
"""(p, y), object arrays -> what "f", the sum of the terms, and "x", its derivative in p, owe."""


def each(values: Callable[[Any, Any], tuple[Any, Any, Any, Any]]) -> LossJudge:
    """A loss of each element."""

    values = functools.lru_cache(maxsize=64)(values)  # batches repeat one element

    def owes(p: Any, y: Any) -> dict[str, Owed]:
        term, largest, slope, steepest = np.frompyfunc(values, 2, 4)(p, y)
        return {"f": _total(term, abs(largest)), "x": Owed(slope, abs(steepest))}

    return owes


def _total(terms: Any, largest: Any) -> Owed:
    """A sum whose every term may be flushed, before a factor of at most 4 is applied to it."""
    return Owed(terms.sum(), largest.sum(), abs(terms).sum(), terms.size, 4 * terms.size)


def _huber(delta: float, divisor: float) -> Callable[[Any, Any], tuple[Any, ...]]:
    """In both arms the product with |e| before half of the nearer is taken off."""

    def values(p: Any, y: Any) -> tuple[Any, ...]:
        e = p - y
        near = min(abs(e), EXACT.mpf(delta))
        slope = _sign(e) * near / divisor
        return near * (abs(e) - near / 2) / divisor, near * e / divisor, slope, slope

    return values


def _squared(factor: float) -> Callable[[Any, Any], tuple[Any, ...]]:
    def values(p: Any, y: Any) -> tuple[Any, ...]:
        e = p - y
        return factor * e * e, factor * e * e, 2 * factor * e, 2 * factor * e

    return values


def _log_cosh(p: Any, y: Any) -> tuple[Any, ...]:
    """|e| + log(1 + e^−2|e|) − log 2, whose difference passes log 2; its slope is tanh e."""
    e = p - y
    value = abs(e) + log1p(exp(-2 * abs(e))) - log(2)
    return value, max(abs(e), log(2)), tanh(e), tanh(e)


def _quantile(q: float) -> Callable[[Any, Any], tuple[Any, ...]]:
    def values(p: Any, y: Any) -> tuple[Any, ...]:
        r = y - p
        value = max(q * r, (q - 1) * r)
        return value, value, (1 - 2 * EXACT.mpf(q)) / 2 - EXACT.mpf(_sign(r)) / 2, 1

    return values


def _poisson(p: Any, y: Any) -> tuple[Any, ...]:
    e = exp(p)
    return e - y * p, max(e, abs(y * p)), e - y, max(e, abs(y))


def _logistic(p: Any, y: Any) -> tuple[Any, ...]:
    f, _, s, _ = _softplus(p)
    return f - y * p, max(f, abs(y * p)), s - y, max(s, abs(y))


def _cross_entropy(p: Any, y: Any) -> dict[str, Owed]:
    """Softmax and its logarithm owe what they owe alone; the terms are weighted by y, the softmax by Σ y."""
    z, chance, total = _shifted(p)
    k, logs, mass = p.shape[-1], z - np.log(total), y.sum(-1, keepdims=True)
    summed = chance * mass
    return {
        "f": _total(-y * logs, y * (np.maximum(abs(z), np.log(total)) + np.ones_like(z))),
        "x": Owed(summed - y, np.maximum(summed * np.maximum(1, abs(z)), y), 2 * summed, k),
    }


LOSS_ROWS: Mapping[str, Row] = {
    "squared_error": Row("squared_error", each(_squared(1))),
    "half_squared_error": Row("half_squared_error", each(_squared(0.5))),
    "absolute_error": Row("absolute_error", each(lambda p, y: (abs(p - y), p - y, _sign(p - y), 1))),
    "huber": Row("huber", each(_huber(0.3, 1)), {"delta": 0.3}, kinks=(0.3,)),
    "smooth_l1": Row("smooth_l1", each(_huber(0.3, 0.3)), {"beta": 0.3}, kinks=(0.3,)),
    "log_cosh": Row("log_cosh", each(_log_cosh), dense=((8.0, 20.0),)),
    "quantile": Row("quantile", each(_quantile(0.9)), {"q": 0.9}),
    "poisson": Row("poisson", each(_poisson), target=_unit),
    "logistic": Row("logistic", each(_logistic), target=_unit),
    "softmax_cross_entropy": Row(
        "softmax_cross_entropy", _cross_entropy, high=0.9, target=_distribution, rowwise=True
    ),
}
