"""The initial numbers of a user's tree of JAX arrays, as it was built."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.backends.jax_haiku.adoption.parts import named
from lockstep.backends.jax_haiku.adoption.step import JaxStep
from lockstep.backends.jax_haiku.adoption.trainer import JaxAdopted
from lockstep.backends.protocol import Snapshot


def initial(given: object) -> Snapshot | None:
    """Of a tree that holds JAX arrays, or of a trainer that was adopted from one. Copies: JAX's arrays cannot be changed.

    Floats are parameters. Integers are buffers; keys and what is no array are left out.
    """
    if isinstance(given, JaxAdopted):
        return given.read(given.init())
    if isinstance(given, JaxStep):
        return given.read(given.init())
    leaves = {name: leaf for name, leaf in named(given).items() if isinstance(leaf, (jax.Array, np.ndarray))}
    if not any(isinstance(leaf, jax.Array) for leaf in leaves.values()):
        return None
    arrays = {
        name: np.array(leaf)
        for name, leaf in leaves.items()
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    }
    floats = {name for name, one in arrays.items() if jnp.issubdtype(one.dtype, jnp.floating)}
    return Snapshot(
        {name: one for name, one in arrays.items() if name in floats},
        buffers={name: one for name, one in arrays.items() if name not in floats},
    )


def fans(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """A `kernel` of Flax or `w` of Haiku is (kernel, in, out), as `jax.nn.initializers` counts; a `weight` of Equinox (out, in, kernel)."""
    if name.endswith("weight"):
        kernel = math.prod(shape[2:])
        return shape[1] * kernel, shape[0] * kernel
    kernel = math.prod(shape[:-2])
    return shape[-2] * kernel, shape[-1] * kernel
