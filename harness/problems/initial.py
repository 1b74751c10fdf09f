"""Initial parameters drawn in NumPy, once, for all backends."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lockstep.backends.ops import FUNCTIONS
from lockstep.backends.problem import Array, Layer, place_layers, shapes_of, walk


def draw(model: Iterable[Layer], input_shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    """Weights normal with standard deviation 1/√fan_in, biases zero, scales one, in the canonical order of names.

    Args:
        model: the layers.
        input_shape: of one example.
        seed: of NumPy's PCG64; the same seed gives the same parameters on every platform.
    """
    rng = np.random.default_rng(seed)
    layers = place_layers(model, input_shape)
    ones = {layer.leaf(name) for layer in walk(layers) for name in FUNCTIONS[layer.op].ones}
    return {name: _drawn(rng, shape, float(name in ones)) for name, shape in shapes_of(layers).items()}


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], constant: float) -> Array:
    """A weight has two axes or more, all but the last of them its fan-in."""
    if len(shape) < 2:
        return np.full(shape, constant)
    weight: Array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
    return weight
