"""Twins: many runs of the chain at once, each of whose operations is disturbed within the rounding of the dtype.

How far the twins stray from the undisturbed run is what rounding can do to it: another order of summation, another
library's exponential, a hyperparameter rounded elsewhere. This is stochastic arithmetic as in Monte Carlo arithmetic
(Parker, 1997; Verificarlo) and CADNA (Vignes, 1993), with the amplitudes below.

Twins are computed in double. For a float32 problem that leaves the disturbance alone: a relative error of at most the
unit roundoff u = 2⁻²⁴ in each operation, which has no bias, so that an update too small for float32 still counts and
the undisturbed run, which loses it, strays from their mean. For float64 the lost part of each sum is added back before
the disturbance (Møller's and Knuth's error-free sum), with the same effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.backends.numpy_vjp.arithmetic import Arithmetic
from lockstep.backends.problem import Array

UNROUNDED = frozenset(
    {
        np.negative,
        np.positive,
        np.absolute,
        np.sign,
        np.maximum,
        np.minimum,
        np.rint,
        np.greater,
        np.greater_equal,
        np.less,
        np.less_equal,
        np.equal,
        np.not_equal,
        np.logical_and,
        np.logical_or,
        np.logical_not,
    }
)
"""What no rounding touches."""

LIBRARY: Mapping[str, float] = {
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "power", "cos"), 8.0),
    **dict.fromkeys(("tanh", "erfc", "erfcx"), 16.0),
}
"""The stated accuracy of library functions, by the ufunc's name, in units of u: 4 ULP, and 8 where a framework was measured to be that far off."""


POOL = 1 << 17
"""How many random numbers are drawn at once."""


class Noise:
    """Where disturbances come from.

    Args:
        twins: how many runs.
        dtype: whose rounding.
        seed: of the generator.
    """

    def __init__(self, twins: int, dtype: str, seed: int = 0) -> None:
        self.twins = twins
        self.dtype = np.dtype(dtype)
        self.unit = float(np.finfo(dtype).eps) / 2
        self.compensated = self.dtype == np.float64
        self._generator = np.random.default_rng(seed)
        self._pool = self._generator.uniform(-self.unit, self.unit, POOL)
        self._lasting = self._generator.uniform(-self.unit, self.unit, twins)

    def draw(self, shape: tuple[int, ...]) -> Array:
        """Uniform in ±u, for (1 or twins, ...) all twins; to be read only.

        Numbers are drawn once and read from a place drawn anew: a generator would take longer than all the rest.
        """
        wanted = (self.twins, *shape[1:])
        count = math.prod(wanted)
        if count > POOL // 2:
            return self._generator.uniform(-self.unit, self.unit, wanted)
        start = int(self._generator.random() * (POOL - count))
        return self._pool[start : start + count].reshape(wanted)

    def disturb(self, data: Array, units: float = 1.0, lost: Array | None = None) -> Array:
        """Each number times 1 + ξ, |ξ| ≤ `units` · u; plus what its own rounding `lost`, before the sum rounds again."""
        disturbed = self.draw(data.shape) * data
        if units != 1.0:
            disturbed *= units
        if lost is not None:
            disturbed += lost
        disturbed += data
        if not math.isfinite(disturbed.sum()):  # of infinity nothing is rounded, and −∞ + ∞ξ may be NaN
            disturbed = np.where(np.isfinite(data), disturbed, data)
        return disturbed

    def lift(self, values: Array) -> Any:
        """The same exact values for all twins; whole numbers stay what they are."""
        if values.dtype.kind != "f":
            return values
        return Twins(values.astype(np.float64)[None], self)

    def number(self, value: float) -> Twins:
        """A hyperparameter, which a framework may round to the dtype."""
        return Twins(self.disturb(np.array([value])), self)

    def spread(self, values: Array | Twins) -> Array:
        """An array of its own, (twins, ...), of what may be twins or, like a count, the same for all."""
        data = values.data if isinstance(values, Twins) else np.asarray(values)[None]
        return np.array(np.broadcast_to(data, (self.twins, *data.shape[1:])))

    def as_complement(self, values: Array) -> Array:
        """S disturbed as by one who rounds 1 − s: by u of 1, and in each step the same way."""
        return values + self._lasting

    @property
    def arithmetic(self) -> Arithmetic:
        """How a NumPyTrainer is made to run over twins."""
        return Arithmetic(self.number, self.lift)


class Twins(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of `shape`, once for each twin.

    Attributes:
        data: (twins, *shape), or (1, *shape) where all are equal.
        noise: who disturbs them.
    """

    __slots__ = ("data", "noise")

    def __init__(self, data: Array, noise: Noise) -> None:
        self.data = data
        self.noise = noise

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one twin."""
        return self.data.shape[1:]

    @property
    def ndim(self) -> int:
        """Of one twin."""
        return self.data.ndim - 1

    @property
    def size(self) -> int:
        """Of one twin."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The problem's, or that of truth values and indices."""
        return self.noise.dtype if self.data.dtype.kind == "f" else self.data.dtype

    @property
    def T(self) -> Twins:  # noqa: N802 -- NumPy's name
        """With the axes of each twin reversed."""
        return self._with(self.data.transpose(0, *range(self.ndim, 0, -1)))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Twins]:
        return (self[index] for index in range(len(self)))

    def __bool__(self) -> bool:
        """Where a formula branches, all twins go the way of the first: branches meet continuously."""
        return bool(self.data.flat[0])

    def __int__(self) -> int:
        """A whole number, which disturbances leave near itself."""
        return round(float(self.data.flat[0]))

    def __getitem__(self, index: Any) -> Twins:
        return self._with(self.data[_below(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.data[_below(index)] = value.data if isinstance(value, Twins) else value

    def __pow__(self, exponent: Any) -> Twins:
        if isinstance(exponent, int) and exponent == 2:
            return self * self
        power: Twins = self.__array_ufunc__(np.power, "__call__", self, exponent)
        return power

    def reshape(self, *shape: Any) -> Twins:
        """As an array's."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        return self._with(self.data.reshape(len(self.data), *wanted))

    def astype(self, dtype: Any) -> Twins | Array:
        """Whole numbers leave the twins: they index, and are the same for all."""
        wanted = np.dtype(dtype)
        if wanted.kind in "iu":
            return self.data[0].astype(wanted)
        return self._with(self.data.astype(np.float64))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Twins:
        """As an array's, disturbed as a sum."""
        return _sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Twins:
        """As an array's, disturbed as a sum."""
        return _mean(self, axis, keepdims)

    def sqrt(self) -> Twins:
        """The root of a number."""
        root: Twins = np.sqrt(self)
        return root

    def log(self) -> Twins:
        """The logarithm of a number."""
        value: Twins = np.log(self)
        return value

    def as_complement(self) -> Twins:
        """This number as by one who keeps 1 − s instead of s."""
        return self._with(self.noise.as_complement(self.data))

    def through(self, size: Any) -> Twins:
        """These values as the difference of others as large as `size`, each rounded."""
        reach = _deepened(size, self.ndim) if isinstance(size, Twins) else size
        return self._with(self.data + 2 * reach * self.noise.draw(self.data.shape))

    def cos(self) -> Twins:
        """The cosine of a number."""
        value: Twins = np.cos(self)
        return value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "at":
            return _scatter(*inputs)
        if ufunc is np.matmul:
            return _matmul(*inputs)
        if method != "__call__":
            return NotImplemented
        out = options.pop("out", (None,))[0]
        data = self._computed(ufunc, _aligned(inputs), options)
        if out is None:
            return self._with(data)
        out.data[...] = data
        return out

    def _computed(self, ufunc: Any, inputs: Sequence[Any], options: Mapping[str, Any]) -> Array:
        result = ufunc(*inputs, **options)
        if ufunc in UNROUNDED:
            return np.asarray(result)
        if ufunc is np.add or ufunc is np.subtract:
            return self._added(inputs[0], inputs[1] if ufunc is np.add else -inputs[1], result)
        return self.noise.disturb(result, LIBRARY.get(ufunc.__name__, 1.0))

    def _added(self, a: Array, b: Array, result: Array) -> Array:
        """A sum; of 0 and a number nothing is rounded."""
        lost = _lost(a, b, result) if self.noise.compensated else None
        disturbed = self.noise.disturb(result, lost=lost)
        if np.all(a) and np.all(b):
            return disturbed
        return np.where(np.equal(a, 0) | np.equal(b, 0), result, disturbed)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"{function.__name__} is not known to twins; add it to twins.FUNCTIONS")
        return FUNCTIONS[function](*args, **kwargs)

    def _with(self, data: Array) -> Twins:
        return Twins(data, self.noise)


def _lost(a: Array, b: Array, total: Array) -> Array:
    """What rounding took from total = fl(a + b), exactly (Møller, 1965; Knuth); 0 where it is not finite."""
    with np.errstate(invalid="ignore"):
        virtual = total - a
        lost = (a - (total - virtual)) + (b - virtual)
    return np.where(np.isfinite(lost), lost, 0.0)


def _below(index: Any) -> tuple[Any, ...]:
    """An index of one twin as one of all."""
    return (slice(None), *index) if isinstance(index, tuple) else (slice(None), index)


def _aligned(inputs: Sequence[Any]) -> list[Any]:
    """The data with as many axes after the first as the deepest has, so that NumPy's broadcasting is each twin's own."""
    ndim = max(one.ndim if isinstance(one, Twins) else np.ndim(one) for one in inputs)
    return [_deepened(one, ndim) if isinstance(one, Twins) else one for one in inputs]


def _deepened(twins: Twins, ndim: int) -> Array:
    if twins.ndim == ndim:
        return twins.data
    return twins.data.reshape(len(twins.data), *[1] * (ndim - twins.ndim), *twins.shape)


def _axes(axis: Any, ndim: int) -> Any:
    """An axis of one twin, or several, as those of all; None is all of one twin's."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    if isinstance(axis, tuple):
        return tuple(_axes(one, ndim) for one in axis)
    return axis if axis < 0 else axis + 1


def _first(*candidates: Any) -> Twins:
    return next(one for one in candidates if isinstance(one, Twins))


def _data(value: Any) -> Array:
    """With an axis for the twins."""
    return value.data if isinstance(value, Twins) else np.asarray(value)[None]


def _summed(total: Array, magnitude: Array, terms: int, noise: Noise) -> Array:
    """A sum of n terms: ξ u √n Σ|terms|, the size of a sequential sum's error under random rounding (Higham, Mary, 2019).

    Pairwise sums are off by √log₂ n instead: the order of summation is not fixed, so all orders must be within.
    """
    error = noise.draw(total.shape) * magnitude
    error *= math.sqrt(terms)
    error += total
    return error


def _sum(x: Any, axis: Any = None, keepdims: bool = False) -> Twins:
    axes = _axes(axis, x.ndim)
    total = np.sum(x.data, axis=axes, keepdims=keepdims)
    terms = x.size // max(1, math.prod(total.shape[1:]))
    return x._with(_summed(total, np.sum(np.abs(x.data), axis=axes, keepdims=keepdims), terms, x.noise))


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> Twins:
    total = _sum(x, axis, keepdims)
    mean: Twins = total / (x.size // max(1, total.size))
    return mean


def _product(a: Array, b: Array, noise: Noise) -> Twins:
    """Matrix products, over the axis that they contract."""
    magnitude = _multiply(np.abs(a), np.abs(b))
    return Twins(_summed(_multiply(a, b), magnitude, a.shape[-1] + 1, noise), noise)


def _multiply(a: Array, b: Array) -> Array:
    """Np.matmul; where one side is the same for all twins, as data are, in one product instead of one a twin."""
    if a.ndim == b.ndim == 3 and len(a) == 1 < len(b):
        twins, inner, columns = b.shape
        product = a[0] @ b.transpose(1, 0, 2).reshape(inner, twins * columns)
        return product.reshape(-1, twins, columns).transpose(1, 0, 2)
    if a.ndim == b.ndim == 3 and len(b) == 1 < len(a):
        return (a.reshape(-1, a.shape[-1]) @ b[0]).reshape(*a.shape[:2], -1)
    return np.asarray(np.matmul(a, b))


def _matmul(a: Any, b: Any) -> Twins:
    left, right = (np.asarray(one) for one in _aligned([a, b]))
    return _product(left, right, _first(a, b).noise)


def _dot(a: Any, b: Any) -> Twins:
    """Np.dot for b of two axes: over the last axis of a and the first of b."""
    left, right = _data(a), _data(b)
    if left.ndim > 3:
        right = right.reshape(len(right), *[1] * (left.ndim - 3), *right.shape[1:])
    return _product(left, right, _first(a, b).noise)


def _tensordot(a: Any, b: Any, axes: Any) -> Twins:
    """Contracts the axes named: both sides are laid out as matrices."""
    inner_a, inner_b = (tuple(one) for one in axes)
    left, right = _data(a), _data(b)
    outer_a = [axis for axis in range(left.ndim - 1) if axis not in inner_a]
    outer_b = [axis for axis in range(right.ndim - 1) if axis not in inner_b]
    shape_a, shape_b = (
        [x.shape[axis + 1] for axis in outer] for x, outer in ((left, outer_a), (right, outer_b))
    )
    inner = math.prod(left.shape[axis + 1] for axis in inner_a)
    rows = left.transpose(0, *(axis + 1 for axis in (*outer_a, *inner_a))).reshape(len(left), -1, inner)
    columns = right.transpose(0, *(axis + 1 for axis in (*inner_b, *outer_b))).reshape(len(right), inner, -1)
    product = _product(rows, columns, _first(a, b).noise)
    return product.reshape(*shape_a, *shape_b)


def _where(condition: Any, a: Any, b: Any) -> Twins:
    return _first(condition, a, b)._with(np.where(*_aligned([condition, a, b])))


def _clip(x: Any, low: Any, high: Any) -> Twins:
    clipped: Twins = np.minimum(np.maximum(x, low), high)
    return clipped


def _reduced(function: Callable[..., Array]) -> Callable[..., Twins]:
    """A reduction that no rounding touches."""

    def reduce(x: Any, axis: Any = None, **options: Any) -> Twins:
        return x._with(function(x.data, axis=_axes(axis, x.ndim), **options))

    return reduce


def _joined(function: Callable[..., Array]) -> Callable[..., Twins]:
    """Np.concatenate or np.stack."""

    def join(parts: Sequence[Any], axis: int = 0) -> Twins:
        data = [_data(one) for one in parts]
        rows = max(len(one) for one in data)
        data = [np.broadcast_to(one, (rows, *one.shape[1:])) for one in data]
        return _first(*parts)._with(function(data, axis=axis if axis < 0 else axis + 1))

    return join


def _moveaxis(x: Any, source: Any, destination: Any) -> Twins:
    return x._with(np.moveaxis(x.data, _axes(source, x.ndim), _axes(destination, x.ndim)))


def _pad(x: Any, widths: Sequence[tuple[int, int]], **options: Any) -> Twins:
    return x._with(np.pad(x.data, [(0, 0), *widths], **options))


def _windows(x: Any, window: tuple[int, ...], axis: Any) -> Twins:
    return x._with(np.lib.stride_tricks.sliding_window_view(x.data, window, axis=_axes(axis, x.ndim)))


def _zeros_like(x: Any) -> Twins:
    return x._with(np.zeros((x.noise.twins, *x.shape)))


def _scatter(into: Any, index: Array, values: Any) -> None:
    """Np.add.at, disturbed like one addition."""
    for row, one in zip(
        into.data, np.broadcast_to(_data(values), (len(into.data), *values.shape)), strict=True
    ):
        np.add.at(row, index, one)
    into.data[...] = into.noise.disturb(into.data)


FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    np.sum: _sum,
    np.mean: _mean,
    np.dot: _dot,
    np.tensordot: _tensordot,
    np.where: _where,
    np.clip: _clip,
    np.max: _reduced(np.max),
    np.argmax: _reduced(np.argmax),
    np.concatenate: _joined(np.concatenate),
    np.stack: _joined(np.stack),
    np.split: lambda x, parts, axis: [
        x._with(one) for one in np.split(x.data, parts, axis=_axes(axis, x.ndim))
    ],
    np.moveaxis: _moveaxis,
    np.swapaxes: lambda x, a, b: x._with(np.swapaxes(x.data, _axes(a, x.ndim), _axes(b, x.ndim))),
    np.pad: _pad,
    np.lib.stride_tricks.sliding_window_view: _windows,
    np.zeros_like: _zeros_like,
    np.ones_like: lambda x: np.ones(x.shape),
    np.result_type: lambda *arguments: _first(*arguments).dtype,
    np.size: lambda x: x.size,
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
}
"""NumPy's functions over twins: all that the chain and the optimizers call."""
