"""The model's layers as one torch module, and where it keeps what belongs to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from lockstep.backends.problem import Placed
from lockstep.backends.pytorch.layers import FUNCTIONS, JOINS, Leaf
from lockstep.backends.pytorch.modules import Dropout


class Paths(NamedTuple):
    """Where the module keeps what the problem names.

    Attributes:
        parameters: canonical name -> torch's path and layout.
        buffers: likewise.
        masks: canonical name of a dropout layer -> its path.
    """

    parameters: dict[str, Leaf]
    buffers: dict[str, Leaf]
    masks: dict[str, str]


def build(layers: Iterable[Placed]) -> nn.Sequential:
    """The layers in order."""
    return nn.Sequential(*map(_module, layers))


def _module(layer: Placed) -> nn.Module:
    if layer.branches:
        return JOINS[layer.op](map(build, layer.branches))
    return FUNCTIONS[layer.op].build(layer.input_shape, layer.args)


def paths(layers: Iterable[Placed]) -> Paths:
    """The paths in what `build` makes of the same layers."""
    collected = Paths({}, {}, {})
    for path, layer in _walk(layers, ""):
        for names, leaves in ((layer.parameters, collected.parameters), (layer.buffers, collected.buffers)):
            for name in names:
                leaf = FUNCTIONS[layer.op].leaf(layer.args, name)
                leaves[layer.leaf(name)] = leaf._replace(name=f"{path}.{leaf.name}")
        if layer.masked:
            collected.masks[layer.name] = path
    return Paths(
        dict(sorted(collected.parameters.items())), dict(sorted(collected.buffers.items())), collected.masks
    )


def _walk(layers: Iterable[Placed], prefix: str) -> Iterator[tuple[str, Placed]]:
    for index, layer in enumerate(layers):
        yield f"{prefix}{index}", layer
        for number, branch in enumerate(layer.branches):
            yield from _walk(branch, f"{prefix}{index}.branches.{number}.")


def set_masks(module: nn.Module, places: Mapping[str, str], masks: Mapping[str, torch.Tensor]) -> None:
    """Give every dropout layer what it multiplies with next."""
    for name, path in places.items():
        layer = module.get_submodule(path)
        assert isinstance(layer, Dropout)
        layer.mask = masks[name]
