"""One Keras model, on the backend that its process was started with."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np


def model(backend: str) -> Any:
    """Keras reads its backend once."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    assert keras.backend.backend() == backend, f"Keras was imported before: {sys.modules['keras']}"
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="gelu")(inputs)
    hidden = keras.layers.LayerNormalization()(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def on_torch() -> Any:
    import torch

    from lockstep import adopt_torch

    return adopt_torch(
        model("torch"),
        torch.nn.functional.cross_entropy,
        lambda p: torch.optim.Adam(p, lr=0.01),
        name="torch",
    )


def wrong_rate() -> Any:
    import torch

    from lockstep import adopt_torch

    loss = torch.nn.functional.cross_entropy
    return adopt_torch(model("torch"), loss, lambda p: torch.optim.Adam(p, lr=0.02), name="torch")


def on_jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    import optax

    from lockstep import adopt_jax

    keras = model("jax")
    params = {one.path: one.value for one in keras.trainable_variables}

    def apply(params: Any, x: Any) -> Any:
        return keras.stateless_call(list(params.values()), [], x)[0]

    def loss(output: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()

    order = [one.path for one in keras.trainable_variables]
    return adopt_jax(
        lambda params, x: apply({name: params[name] for name in order}, x),
        loss,
        optax.adam(0.01),
        params,
        name="jax",
    )


def batches() -> list[Any]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((5, 6)), rng.integers(0, 3, 5)) for _ in range(4)]
