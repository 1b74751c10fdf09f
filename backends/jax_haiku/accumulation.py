"""Accumulation of gradients: optax.MultiSteps around the transform that makes the update."""

from __future__ import annotations

import jax.numpy as jnp
import optax


def accumulating(inner: optax.GradientTransformation, every: int, dtype: str) -> optax.GradientTransformation:
    """`inner`, given the mean of each `every` gradients; between them its updates are zero.

    MultiSteps' own mean is a running one, Σg/i after i of k; here g/k is summed, as where loss/k is
    differentiated, so that what is carried between batches is the same number in every framework. Its accumulator
    is float32 unless set otherwise, also for float64 gradients.
    """
    if every == 1:
        return inner
    steps = optax.MultiSteps(inner, every, use_grad_mean=False, accumulator_dtype=jnp.dtype(dtype))
    return optax.chain(optax.scale(1 / every), steps.gradient_transformation())
