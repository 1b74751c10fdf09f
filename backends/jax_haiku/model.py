"""The model's layers as one Haiku function, and where Haiku keeps what belongs to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax

from lockstep.backends.jax_haiku.layers import FUNCTIONS
from lockstep.backends.problem import Placed, walk

Place = tuple[str, str]
"""Haiku's module and its leaf in it."""

Arrays = Mapping[str, jax.Array]

Tap = Callable[[str, jax.Array], jax.Array]
"""(a layer's name, its output) -> what the next layer gets."""


def parameter_places(layers: Iterable[Placed]) -> dict[str, Place]:
    """Canonical name of each parameter -> where it lies."""
    return dict(
        sorted((layer.leaf(one), _place(layer, one)) for layer in walk(layers) for one in layer.parameters)
    )


def buffer_places(layers: Iterable[Placed]) -> dict[str, Place]:
    """Canonical name of each buffer -> where it lies."""
    return dict(
        sorted((layer.leaf(one), _place(layer, one)) for layer in walk(layers) for one in layer.buffers)
    )


def _place(layer: Placed, name: str) -> Place:
    submodule, _, leaf = FUNCTIONS[layer.op].leaves[name].rpartition("/")
    return "/".join(filter(None, [_module_name(layer), submodule])), leaf


def _module_name(layer: Placed) -> str:
    """Haiku wants an identifier: ``0.linear`` becomes ``layer_0_linear``."""
    return "layer_" + re.sub(r"\W", "_", layer.name)


def forward(
    layers: Iterable[Placed], x: jax.Array, masks: Arrays, training: bool, tap: Tap | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The model's output and every layer's; `tap` makes of a layer's output what the next one gets."""
    outputs = {}
    for layer in layers:
        x = outputs[layer.name] = _layer(layer, x, masks, training)
        if tap is not None:
            x = tap(layer.name, x)
    return x, outputs


def _layer(layer: Placed, x: jax.Array, masks: Arrays, training: bool) -> jax.Array:
    f = FUNCTIONS[layer.op].build(layer.args, _module_name(layer))
    if layer.branches:
        return f(x, list(_branches(layer, x, masks, training)))
    if layer.masked:
        return f(x, masks[layer.name]) if training else x
    return f(x, training) if layer.buffers else f(x)


def _branches(layer: Placed, x: jax.Array, masks: Arrays, training: bool) -> Iterator[jax.Array]:
    for branch in layer.branches:
        yield forward(branch, x, masks, training)[0]
