"""The modules that Haiku lacks, or has with other arguments; each says which."""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from lockstep.backends.ops import Args


class Scale(hk.Module):
    """x ⊙ s. Haiku has no layer that only multiplies."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * hk.get_parameter("s", x.shape[-1:], x.dtype, init=jnp.ones)


class BatchNorm(hk.Module):
    """Batch norm with the stated running averages.

    hk.BatchNorm keeps parameters and averages with the batch's axes, always averages the biased variance from 0
    on and debiases it, and forms σ² as mean x² − μ², which cancels where |μ| ≫ σ.
    """

    def __init__(self, args: Args, name: str) -> None:
        super().__init__(name=name)
        self._args = args

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        axes = tuple(range(x.ndim - 1))
        if training:
            mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
            count = x.size // x.shape[-1]
            unbiased = count / (count - 1) if self._args["unbiased"] else 1.0
            self._move({"mean": mean, "variance": variance * unbiased})
        else:
            mean, variance = self._averages(x)
        scale = hk.get_parameter("scale", x.shape[-1:], x.dtype, init=jnp.ones)
        offset = hk.get_parameter("offset", x.shape[-1:], x.dtype, init=jnp.zeros)
        return (x - mean) / jnp.sqrt(variance + float(self._args["epsilon"])) * scale + offset

    def _move(self, statistics: Mapping[str, jax.Array]) -> None:
        momentum = float(self._args["momentum"])
        for name, value in statistics.items():
            before = hk.get_state(name, value.shape, value.dtype, init=jnp.zeros)
            hk.set_state(name, (1 - momentum) * before + momentum * value)
        if self._args["debias"]:
            hk.set_state("count", hk.get_state("count", (), init=jnp.zeros) + 1)

    def _averages(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, variance = (
            hk.get_state(name, x.shape[-1:], x.dtype, init=jnp.zeros) for name in ("mean", "variance")
        )
        if not self._args["debias"]:
            return mean, variance
        count = hk.get_state("count", (), init=jnp.zeros)
        weight = jnp.where(count > 0, 1 - (1 - float(self._args["momentum"])) ** count, 1.0)
        return mean / weight, variance / weight
