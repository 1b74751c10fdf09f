"""Initial parameters drawn in NumPy, once, for all backends."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from backends.problem import Array, Layer, place_layers, shapes_of


def draw(model: Iterable[Layer], input_shape: tuple[int, ...], seed: int) -> dict[str, Array]:
    """Weights normal with standard deviation 1/√fan_in, biases zero, in the canonical order of names.

    Args:
        model: the layers.
        input_shape: of one example.
        seed: of NumPy's PCG64; the same seed gives the same parameters on every platform.
    """
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape) / np.sqrt(shape[0]) if len(shape) > 1 else np.zeros(shape)
        for name, shape in shapes_of(place_layers(model, input_shape)).items()
    }
