"""The registry's members in this backend's functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backends.numpy_vjp.function import Function
from backends.numpy_vjp.ops import elementwise, losses
from backends.numpy_vjp.ops.add import add
from backends.numpy_vjp.ops.dot import dot
from backends.numpy_vjp.ops.scale import scale
from backends.numpy_vjp.ops.softmax import log_softmax, softmax
from backends.numpy_vjp.ops.squared_loss import mean_squared_loss, squared_loss
from backends.ops import Args

Links = tuple[tuple[Function, str | None], ...]
"""What a layer is made of: functions, each with the name of its parameter (None for none)."""


def _plain(f: Function) -> Callable[[Args], Links]:
    """A function without parameters or arguments."""
    return lambda args: ((f, None),)


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
    "leaky_relu": lambda args: ((elementwise.leaky_relu(float(args["slope"])), None),),
    "elu": lambda args: ((elementwise.elu(float(args["alpha"])), None),),
    "selu": _plain(elementwise.selu),
    "gelu": lambda args: (
        (elementwise.gelu_tanh if args["approximate"] == "tanh" else elementwise.gelu, None),
    ),
    "silu": _plain(elementwise.silu),
    "sigmoid": _plain(elementwise.sigmoid),
    "tanh": _plain(elementwise.tanh),
    "softplus": _plain(elementwise.softplus),
    "softmax": _plain(softmax),
    "log_softmax": _plain(log_softmax),
}

LOSSES: Mapping[str, Callable[[Args], Function]] = {
    "squared_error": lambda args: squared_loss if args["reduction"] == "sum" else mean_squared_loss,
    "half_squared_error": lambda args: losses.half_squared_error(str(args["reduction"])),
    "absolute_error": lambda args: losses.absolute_error(str(args["reduction"])),
    "huber": lambda args: losses.huber(float(args["delta"]), str(args["reduction"])),
    "smooth_l1": lambda args: losses.smooth_l1(float(args["beta"]), str(args["reduction"])),
    "log_cosh": lambda args: losses.log_cosh(str(args["reduction"])),
    "quantile": lambda args: losses.quantile(float(args["q"]), str(args["reduction"])),
    "poisson": lambda args: losses.poisson(str(args["reduction"])),
    "logistic": lambda args: losses.logistic(str(args["reduction"])),
    "softmax_cross_entropy": lambda args: losses.softmax_cross_entropy(str(args["reduction"])),
    "gaussian": lambda args: losses.gaussian(float(args["epsilon"]), str(args["reduction"])),
}
