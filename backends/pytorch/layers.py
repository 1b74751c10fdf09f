"""The model's layers as torch modules, and where torch keeps their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from backends.ops import Args, Shape


class Bias(nn.Module):
    """x + b. torch.nn has no layer that only adds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


class Scale(nn.Module):
    """x ⊙ s. torch.nn has no layer that only multiplies."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Lambda(nn.Module):
    """A function without parameters, for those that have no class in torch.nn."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._f(x)


class Leaf(NamedTuple):
    """Where torch keeps a parameter, and whether it keeps the transpose of the canonical layout."""

    name: str
    transposed: bool = False


class Row(NamedTuple):
    """How one op is written in torch.

    Attributes:
        build: (input shape of one example, arguments) -> module.
        leaves: canonical parameter name -> torch's.
    """

    build: Callable[[Shape, Args], nn.Module]
    leaves: Mapping[str, Leaf] = {}


def _linear(bias: bool) -> Callable[[Shape, Args], nn.Module]:
    return lambda shape, args: nn.Linear(shape[0], int(args["size"]), bias=bias)


def _plain(f: Callable[[torch.Tensor], torch.Tensor]) -> Row:
    """A function without parameters or arguments."""
    return Row(lambda shape, args: Lambda(f))


# torch's Linear keeps its weight as (out, in).
FUNCTIONS: Mapping[str, Row] = {
    "dot": Row(_linear(bias=False), {"w": Leaf("weight", transposed=True)}),
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
    "softmax": Row(lambda shape, args: nn.Softmax(-1)),
    "log_softmax": Row(lambda shape, args: nn.LogSoftmax(-1)),
    "linear": Row(_linear(bias=True), {"w": Leaf("weight", transposed=True), "b": Leaf("bias")}),
}
