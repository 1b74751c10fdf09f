"""The registry's members in this backend's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lockstep.backends.numpy_vjp.chain import compose
from lockstep.backends.numpy_vjp.function import Function
from lockstep.backends.numpy_vjp.ops import elementwise, losses
from lockstep.backends.numpy_vjp.ops.add import add
from lockstep.backends.numpy_vjp.ops.attention import attend
from lockstep.backends.numpy_vjp.ops.branches import parallel, residual
from lockstep.backends.numpy_vjp.ops.conv import conv
from lockstep.backends.numpy_vjp.ops.dot import dot
from lockstep.backends.numpy_vjp.ops.embedding import embedding
from lockstep.backends.numpy_vjp.ops.flatten import flatten
from lockstep.backends.numpy_vjp.ops.mask import mask
from lockstep.backends.numpy_vjp.ops.normalise import normalise, rms_normalise, standardise
from lockstep.backends.numpy_vjp.ops.pool import average_pool, max_pool
from lockstep.backends.numpy_vjp.ops.scale import scale
from lockstep.backends.numpy_vjp.ops.softmax import log_softmax, softmax
from lockstep.backends.numpy_vjp.ops.squared_loss import mean_squared_loss, squared_loss
from lockstep.backends.ops import Args

Names = str | None | tuple["Names", ...]
"""The parameter of a function by name; None for none, a tuple for a tuple."""

Links = tuple[tuple[Function, Names], ...]
"""What a layer is made of: functions, each with the name of its parameter, buffer or mask."""


def _plain(f: Function) -> Callable[[Args], Links]:
    """A function without parameters or arguments."""
    return lambda args: ((f, None),)


def _rescaled(f: Function) -> Links:
    """Normalised, then scaled and shifted."""
    return (f, None), (scale, "scale"), (add, "offset")


def _conv(args: Args) -> Links:
    return (conv(int(args["stride"]), int(args["padding"])), "w"), (add, "b")


def _pool(args: Args) -> tuple[int, int, int]:
    return int(args["window"]), int(args["stride"]), int(args["padding"])


def _attention(args: Args) -> Links:
    """Three projections side by side, the heads, one projection."""
    inputs = tuple((f"w_{part}", f"b_{part}") for part in ("query", "key", "value"))
    return (
        (parallel([compose(dot, add)] * 3), inputs),
        (attend(int(args["heads"]), bool(args["causal"])), None),
        (dot, "w_output"),
        (add, "b_output"),
    )


FUNCTIONS: Mapping[str, Callable[[Args], Links]] = {
    "dot": lambda args: ((dot, "w"),),
    "add": lambda args: ((add, "b"),),
    "linear": lambda args: ((dot, "w"), (add, "b")),
    "scale": lambda args: ((scale, "s"),),
    "exp": _plain(elementwise.exp),
    "log": _plain(elementwise.log),
    "square": _plain(elementwise.square),
    "sqrt": _plain(elementwise.sqrt),
    "abs": _plain(elementwise.absolute),
    "relu": _plain(elementwise.relu),
    "leaky_relu": lambda args: ((elementwise.leaky_relu(args["slope"]), None),),
    "elu": lambda args: ((elementwise.elu(args["alpha"]), None),),
    "selu": _plain(elementwise.selu),
    "gelu": lambda args: (
        (elementwise.gelu_tanh if args["approximate"] == "tanh" else elementwise.gelu, None),
    ),
    "silu": _plain(elementwise.silu),
    "sigmoid": _plain(elementwise.sigmoid),
    "tanh": _plain(elementwise.tanh),
    "softplus": _plain(elementwise.softplus),
    "log_sigmoid": _plain(elementwise.log_sigmoid),
    "softmax": _plain(softmax),
    "log_softmax": _plain(log_softmax),
    "layer_norm": lambda args: _rescaled(normalise(args["epsilon"], over_batch=False)),
    "rms_norm": lambda args: ((rms_normalise(args["epsilon"]), None), (scale, "scale")),
    "batch_norm": lambda args: _rescaled(normalise(args["epsilon"], over_batch=True)),
    "dropout": lambda args: ((mask, "mask"),),
    "embedding": lambda args: ((embedding, "w"),),
    "conv1d": _conv,
    "conv2d": _conv,
    "max_pool": lambda args: ((max_pool(*_pool(args)), None),),
    "average_pool": lambda args: ((average_pool(*_pool(args), bool(args["count_padding"])), None),),
    "flatten": _plain(flatten),
    "attention": _attention,
}

JOINS: Mapping[str, Callable[[Sequence[Function]], Function]] = {"residual": residual, "parallel": parallel}
"""The functions of branches: (the branches' chains) -> function."""

EVALUATED: Mapping[str, Callable[[Args], Links]] = {
    "batch_norm": lambda args: (
        (standardise(args["epsilon"]), ("mean", "variance")),
        (scale, "scale"),
        (add, "offset"),
    ),
    "dropout": lambda args: (),
}
"""What a layer is made of in evaluation, where that differs; ``mean`` and ``variance`` are what `AVERAGES` reads."""

LOSSES: Mapping[str, Callable[[Args], Function]] = {
    "squared_error": lambda args: squared_loss if args["reduction"] == "sum" else mean_squared_loss,
    "half_squared_error": lambda args: losses.half_squared_error(str(args["reduction"])),
    "absolute_error": lambda args: losses.absolute_error(str(args["reduction"])),
    "huber": lambda args: losses.huber(args["delta"], str(args["reduction"])),
    "smooth_l1": lambda args: losses.smooth_l1(args["beta"], str(args["reduction"])),
    "log_cosh": lambda args: losses.log_cosh(str(args["reduction"])),
    "quantile": lambda args: losses.quantile(args["q"], str(args["reduction"])),
    "poisson": lambda args: losses.poisson(str(args["reduction"])),
    "logistic": lambda args: losses.logistic(str(args["reduction"])),
    "softmax_cross_entropy": lambda args: losses.softmax_cross_entropy(str(args["reduction"])),
    "gaussian": lambda args: losses.gaussian(args["epsilon"], str(args["reduction"])),
}
