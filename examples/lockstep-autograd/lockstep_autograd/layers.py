"""The model: its layers one after the other, each a plain forward pass; autograd finds the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import autograd.numpy as np
from autograd.tracer import getval

from lockstep.backends.problem import Array, Arrays, Placed
from lockstep_autograd.activations import ACTIVATIONS


@dataclass
class Pass:
    """One forward pass: what it reads, and the buffers that it moves.

    Attributes:
        parameters: by canonical name; boxes of autograd's while it differentiates.
        buffers: before the pass.
        masks: of dropout, by layer; None in evaluation.
        moved: the buffers after the pass, filled as it goes.
    """

    parameters: Arrays
    buffers: Arrays
    masks: Arrays | None
    moved: dict[str, Array] = field(default_factory=dict)

    @property
    def training(self) -> bool:
        """Whether statistics are the batch's and elements are dropped."""
        return self.masks is not None

    @property
    def buffers_after(self) -> dict[str, Array]:
        """All buffers, those that moved as they are now."""
        return {name: self.moved.get(name, value) for name, value in self.buffers.items()}


def chain(layers: Iterable[Placed], x: Array, run: Pass) -> Array:
    """The output of layers applied in order."""
    for layer in layers:
        x = forward(layer, x, run)
    return x


def forward(layer: Placed, x: Array, run: Pass) -> Array:
    """The output of one layer."""
    if layer.op in ACTIVATIONS:
        return ACTIVATIONS[layer.op](x, layer.args)
    return LAYERS[layer.op](layer, x, run)


def _dot(layer: Placed, x: Array, run: Pass) -> Array:
    return np.dot(x, run.parameters[layer.leaf("w")])


def _add(layer: Placed, x: Array, run: Pass) -> Array:
    return x + run.parameters[layer.leaf("b")]


def _dropout(layer: Placed, x: Array, run: Pass) -> Array:
    return x if run.masks is None else x * run.masks[layer.name]


def _embedding(layer: Placed, x: Array, run: Pass) -> Array:
    return run.parameters[layer.leaf("w")][x.astype(int)]


def _residual(layer: Placed, x: Array, run: Pass) -> Array:
    return x + sum(chain(branch, x, run) for branch in layer.branches)


def _parallel(layer: Placed, x: Array, run: Pass) -> Array:
    return np.concatenate([chain(branch, x, run) for branch in layer.branches], axis=-1)


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = int(np.prod([x.shape[axis] for axis in axes]))
    return np.sum(x, axis=axes, keepdims=True) / count


def _scaled(layer: Placed, x: Array, run: Pass) -> Array:
    return x * run.parameters[layer.leaf("scale")] + run.parameters[layer.leaf("offset")]


def _layer_norm(layer: Placed, x: Array, run: Pass) -> Array:
    centred = x - _mean(x, (x.ndim - 1,))
    variance = _mean(np.square(centred), (x.ndim - 1,))
    return _scaled(layer, centred / np.sqrt(variance + layer.args["epsilon"]), run)


def _rms_norm(layer: Placed, x: Array, run: Pass) -> Array:
    root = np.sqrt(_mean(np.square(x), (x.ndim - 1,)) + layer.args["epsilon"])
    return x / root * run.parameters[layer.leaf("scale")]


def _batch_norm(layer: Placed, x: Array, run: Pass) -> Array:
    if not run.training:
        mean, variance = _running(layer, run)
        return _scaled(layer, (x - mean) / np.sqrt(variance + layer.args["epsilon"]), run)
    axes = tuple(range(x.ndim - 1))
    mean = _mean(x, axes)
    centred = x - mean
    variance = _mean(np.square(centred), axes)
    _move(layer, run, getval(mean), getval(variance), x.size // x.shape[-1])
    return _scaled(layer, centred / np.sqrt(variance + layer.args["epsilon"]), run)


def _move(layer: Placed, run: Pass, mean: Array, variance: Array, rows: int) -> None:
    """The running averages: r ← (1 − α) r + α s."""
    alpha, shape = layer.args["momentum"], mean.shape[-1:]
    if layer.args["unbiased"]:
        variance = variance * (rows / (rows - 1))
    for name, value in (("mean", mean), ("variance", variance)):
        leaf = layer.leaf(name)
        run.moved[leaf] = (1 - alpha) * run.buffers[leaf] + alpha * value.reshape(shape)
    if layer.args["debias"]:
        run.moved[layer.leaf("count")] = run.buffers[layer.leaf("count")] + 1


def _running(layer: Placed, run: Pass) -> list[Array]:
    """Mean and variance as evaluation takes them; debiased ones before the first step as they are."""
    kept = [run.buffers[layer.leaf(name)] for name in ("mean", "variance")]
    if not layer.args["debias"]:
        return kept
    weight = 1 - (1 - layer.args["momentum"]) ** int(run.buffers[layer.leaf("count")])
    return [value / (weight or 1.0) for value in kept]


LAYERS: Mapping[str, Callable[[Placed, Any, Pass], Any]] = {
    "dot": _dot,
    "add": _add,
    "linear": lambda layer, x, run: _add(layer, _dot(layer, x, run), run),
    "scale": lambda layer, x, run: x * run.parameters[layer.leaf("s")],
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "embedding": _embedding,
    "flatten": lambda layer, x, run: np.reshape(x, (len(x), -1)),
    "residual": _residual,
    "parallel": _parallel,
}
"""Name -> function of (layer, x, pass)."""
