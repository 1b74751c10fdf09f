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


# torch's Linear keeps its weight as (out, in).
FUNCTIONS: Mapping[str, Row] = {
    "dot": Row(_linear(bias=False), {"w": Leaf("weight", transposed=True)}),
    "add": Row(lambda shape, args: Bias(shape[-1]), {"b": Leaf("bias")}),
    "linear": Row(_linear(bias=True), {"w": Leaf("weight", transposed=True), "b": Leaf("bias")}),
}
