"""The model's layers as torch modules, and where torch keeps their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

from lockstep.backends.ops import Args
from lockstep.backends.pytorch.modules import (
    Attention,
    BatchNorm,
    Bias,
    ChannelsLast,
    Dropout,
    Embedding,
    Lambda,
    Parallel,
    Residual,
    Scale,
)
from lockstep.backends.shapes import Shape


class Leaf(NamedTuple):
    """Where torch keeps a parameter or buffer, and in which layout.

    Attributes:
        name: its path within the module.
        axes: the canonical axes in torch's order, (1, 0) for a transpose; None where the layouts are one.
    """

    name: str
    axes: tuple[int, ...] | None = None


Leaves = Mapping[str, Leaf]


class Row(NamedTuple):
    """How one op is written in torch.

    Attributes:
        build: (input shape of one example, arguments) -> module.
        leaves: canonical name of a parameter or buffer -> torch's.
        leaves_of: arguments -> leaves, where they depend on them.
    """

    build: Callable[[Shape, Args], nn.Module]
    leaves: Leaves = MappingProxyType({})
    leaves_of: Callable[[Args], Leaves] | None = None

    def leaf(self, args: Args, name: str) -> Leaf:
        """Where a parameter or buffer of that name lies."""
        return (self.leaves_of(args) if self.leaves_of else self.leaves)[name]


TRANSPOSED = (1, 0)


def _batch_norm_leaves(args: Args) -> dict[str, Leaf]:
    own = "" if args["debias"] or not args["unbiased"] else "norm."
    return {
        "scale": Leaf("norm.weight"),
        "offset": Leaf("norm.bias"),
        "mean": Leaf(f"{own}running_mean"),
        "variance": Leaf(f"{own}running_var"),
        "count": Leaf("count"),
    }


def _linear(bias: bool) -> Callable[[Shape, Args], nn.Module]:
    return lambda shape, args: nn.Linear(shape[-1], int(args["size"]), bias=bias)


def _convolution(module: Callable[..., nn.Module], axes: tuple[int, ...]) -> Row:
    """Torch's weight is (out, in, window ...)."""

    def build(shape: Shape, args: Args) -> nn.Module:
        window, stride, padding = (int(args[name]) for name in ("window", "stride", "padding"))
        return ChannelsLast(module(shape[-1], int(args["size"]), window, stride, padding))

    return Row(build, {"w": Leaf("module.weight", axes), "b": Leaf("module.bias")})


def _max_pool(shape: Shape, args: Args) -> nn.Module:
    pool = nn.MaxPool1d if len(shape) == 2 else nn.MaxPool2d
    return ChannelsLast(pool(int(args["window"]), int(args["stride"]), int(args["padding"])))


def _average_pool(shape: Shape, args: Args) -> nn.Module:
    pool = nn.AvgPool1d if len(shape) == 2 else nn.AvgPool2d
    window, stride, padding = (int(args[name]) for name in ("window", "stride", "padding"))
    return ChannelsLast(pool(window, stride, padding, count_include_pad=bool(args["count_padding"])))


def _plain(f: Callable[[torch.Tensor], torch.Tensor]) -> Row:
    """A function without parameters or arguments."""
    return Row(lambda shape, args: Lambda(f))


# torch's Linear keeps its weight as (out, in).
FUNCTIONS: Mapping[str, Row] = {
    "dot": Row(_linear(bias=False), {"w": Leaf("weight", TRANSPOSED)}),
    "add": Row(lambda shape, args: Bias(shape[-1]), {"b": Leaf("bias")}),
    "scale": Row(lambda shape, args: Scale(shape[-1]), {"s": Leaf("scale")}),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "square": _plain(torch.square),
    "sqrt": _plain(torch.sqrt),
    "abs": _plain(torch.abs),
    "relu": Row(lambda shape, args: nn.ReLU()),
    "leaky_relu": Row(lambda shape, args: nn.LeakyReLU(float(args["slope"]))),
    "elu": Row(lambda shape, args: nn.ELU(float(args["alpha"]))),
    "selu": Row(lambda shape, args: nn.SELU()),
    "gelu": Row(lambda shape, args: nn.GELU(str(args["approximate"]))),
    "silu": Row(lambda shape, args: nn.SiLU()),
    "sigmoid": Row(lambda shape, args: nn.Sigmoid()),
    "tanh": Row(lambda shape, args: nn.Tanh()),
    # nn.Softplus is x beyond its threshold, and overflows below a raised one.
    "softplus": _plain(lambda x: torch.logaddexp(x, x.new_zeros(()))),
    "log_sigmoid": Row(lambda shape, args: nn.LogSigmoid()),
    "softmax": Row(lambda shape, args: nn.Softmax(-1)),
    "log_softmax": Row(lambda shape, args: nn.LogSoftmax(-1)),
    "linear": Row(_linear(bias=True), {"w": Leaf("weight", TRANSPOSED), "b": Leaf("bias")}),
    "layer_norm": Row(
        lambda shape, args: nn.LayerNorm(shape[-1], float(args["epsilon"])),
        {"scale": Leaf("weight"), "offset": Leaf("bias")},
    ),
    "rms_norm": Row(
        lambda shape, args: nn.RMSNorm(shape[-1], float(args["epsilon"])), {"scale": Leaf("weight")}
    ),
    "batch_norm": Row(BatchNorm, leaves_of=_batch_norm_leaves),
    "dropout": Row(lambda shape, args: Dropout()),
    "embedding": Row(
        lambda shape, args: Embedding(int(args["ids"]), int(args["size"])), {"w": Leaf("weight")}
    ),
    "conv1d": _convolution(nn.Conv1d, (2, 1, 0)),
    "conv2d": _convolution(nn.Conv2d, (3, 2, 0, 1)),
    "max_pool": Row(_max_pool),
    "average_pool": Row(_average_pool),
    "flatten": Row(lambda shape, args: nn.Flatten()),
    "attention": Row(
        Attention,
        {
            **{
                f"w_{part}": Leaf(f"{part}.weight", TRANSPOSED)
                for part in ("query", "key", "value", "output")
            },
            **{f"b_{part}": Leaf(f"{part}.bias") for part in ("query", "key", "value", "output")},
        },
    ),
}

JOINS: Mapping[str, Callable[[Iterable[nn.Module]], nn.Module]] = {"residual": Residual, "parallel": Parallel}
"""The functions of branches: branches -> module."""
