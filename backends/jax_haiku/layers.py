"""The model's layers as Haiku modules, and where Haiku keeps their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from backends.ops import Args


class Row(NamedTuple):
    """How one op is written in Haiku.

    Attributes:
        build: (arguments, module name) -> a callable module; called inside `hk.transform`.
        leaves: canonical parameter name -> Haiku's; Haiku's shapes are the canonical ones.
    """

    build: Callable[[Args, str], Callable[[jax.Array], jax.Array]]
    leaves: Mapping[str, str] = {}


class Scale(hk.Module):
    """x ⊙ s. Haiku has no layer that only multiplies."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * hk.get_parameter("s", x.shape[-1:], x.dtype, init=jnp.ones)


def _plain(f: Callable[[jax.Array], jax.Array]) -> Row:
    """A function without parameters or arguments."""
    return Row(lambda args, name: f)


FUNCTIONS: Mapping[str, Row] = {
    "dot": Row(lambda args, name: hk.Linear(int(args["size"]), with_bias=False, name=name), {"w": "w"}),
    # hk.Bias would give b the shape of all trailing axes; the canonical b is (out,).
    "add": Row(lambda args, name: hk.Bias(bias_dims=[-1], name=name), {"b": "b"}),
    "linear": Row(lambda args, name: hk.Linear(int(args["size"]), name=name), {"w": "w", "b": "b"}),
    "scale": Row(lambda args, name: Scale(name=name), {"s": "s"}),
    "exp": _plain(jnp.exp),
    "log": _plain(jnp.log),
    "square": _plain(jnp.square),
    "sqrt": _plain(jnp.sqrt),
    # jnp.abs has derivative +1 at 0; sign(x)·x has the stated 0.
    "abs": _plain(lambda x: jnp.sign(x) * x),
    "relu": _plain(jax.nn.relu),
    # jax.nn.leaky_relu has derivative 1 at 0; this has the stated slope.
    "leaky_relu": Row(lambda args, name: lambda x: jnp.where(x > 0, x, float(args["slope"]) * x)),
    "elu": Row(lambda args, name: lambda x: jax.nn.elu(x, float(args["alpha"]))),
    "selu": _plain(jax.nn.selu),
    "gelu": Row(lambda args, name: lambda x: jax.nn.gelu(x, approximate=args["approximate"] == "tanh")),
    "silu": _plain(jax.nn.silu),
    "sigmoid": _plain(jax.nn.sigmoid),
    "tanh": _plain(jnp.tanh),
    "softplus": _plain(jax.nn.softplus),
    "softmax": _plain(jax.nn.softmax),
    "log_softmax": _plain(jax.nn.log_softmax),
}
