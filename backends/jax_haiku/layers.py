"""The model's layers as Haiku modules, and where Haiku keeps their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from lockstep.backends.jax_haiku.modules import BatchNorm, Scale
from lockstep.backends.ops import Args


class Row(NamedTuple):
    """How one op is written in Haiku.

    Attributes:
        build: (arguments, module name) -> a callable module; called inside `hk.transform_with_state`. It takes x;
            one with buffers also whether it trains, one with a mask also the mask, one with branches also
            their outputs.
        leaves: canonical name of a parameter or buffer -> Haiku's, with the submodule where it lies in one;
            Haiku's shapes are the canonical ones.
    """

    build: Callable[[Args, str], Callable[..., jax.Array]]
    leaves: Mapping[str, str] = {}


def _layer_norm(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
    norm: Callable[[jax.Array], jax.Array] = hk.LayerNorm(
        -1, create_scale=True, create_offset=True, eps=float(args["epsilon"]), name=name
    )
    return norm


def _embedding(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
    lookup = hk.Embed(int(args["ids"]), int(args["size"]), name=name)
    return lambda x: lookup(x.astype(jnp.int32))


def _convolution(axes: int) -> Row:
    def build(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
        convolution: Callable[[jax.Array], jax.Array] = hk.ConvND(
            axes,
            int(args["size"]),
            int(args["window"]),
            int(args["stride"]),
            padding=[(int(args["padding"]),) * 2] * axes,
            name=name,
        )
        return convolution

    return Row(build, {"w": "w", "b": "b"})


def _padded(x: jax.Array, padding: int, value: float) -> jax.Array:
    between = [(padding, padding)] * (x.ndim - 2)
    return jnp.pad(x, [(0, 0), *between, (0, 0)], constant_values=value)


def _window(args: Args, x: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Haiku wants the window and the stride along every axis, batch and channels included."""
    axes = x.ndim - 2
    return (1, *[int(args["window"])] * axes, 1), (1, *[int(args["stride"])] * axes, 1)


def _max_pool(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
    """hk.max_pool over what was padded before: it offers VALID and SAME only."""
    padding = int(args["padding"])
    return lambda x: hk.max_pool(_padded(x, padding, -jnp.inf), *_window(args, x), "VALID")


def _average_pool(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
    """hk.avg_pool over what was padded before; divided by the mean of ones where the padding does not count."""
    padding = int(args["padding"])

    def pool(x: jax.Array) -> jax.Array:
        mean: jax.Array = hk.avg_pool(_padded(x, padding, 0.0), *_window(args, x), "VALID")
        if args["count_padding"] or not padding:
            return mean
        present = hk.avg_pool(_padded(jnp.ones_like(x), padding, 0.0), *_window(args, x), "VALID")
        return mean / present

    return pool


def _attention(args: Args, name: str) -> Callable[[jax.Array], jax.Array]:
    def attend(x: jax.Array) -> jax.Array:
        heads, width = int(args["heads"]), x.shape[-1]
        attention = hk.MultiHeadAttention(heads, width // heads, w_init=jnp.zeros, name=name)
        mask = jnp.tri(x.shape[-2], dtype=bool)[None, None] if args["causal"] else None
        result: jax.Array = attention(x, x, x, mask)
        return result

    return attend


_ATTENTION = {"query": "query", "key": "key", "value": "value", "output": "linear"}


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
    "log_sigmoid": _plain(jax.nn.log_sigmoid),
    "softmax": _plain(jax.nn.softmax),
    "log_softmax": _plain(jax.nn.log_softmax),
    "layer_norm": Row(_layer_norm, {"scale": "scale", "offset": "offset"}),
    "rms_norm": Row(
        lambda args, name: hk.RMSNorm(-1, eps=float(args["epsilon"]), name=name), {"scale": "scale"}
    ),
    "batch_norm": Row(BatchNorm, {name: name for name in ("scale", "offset", "mean", "variance", "count")}),
    # hk.dropout draws its mask from a key of its own.
    "dropout": Row(lambda args, name: lambda x, mask: x * mask),
    "embedding": Row(_embedding, {"w": "embeddings"}),
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "max_pool": Row(_max_pool),
    "average_pool": Row(_average_pool),
    "flatten": Row(lambda args, name: hk.Flatten(name=name)),
    "attention": Row(
        _attention,
        {f"{kind}_{ours}": f"{theirs}/{kind}" for ours, theirs in _ATTENTION.items() for kind in "wb"},
    ),
    "residual": Row(lambda args, name: lambda x, branches: x + sum(branches)),
    "parallel": Row(lambda args, name: lambda x, branches: jnp.concatenate(branches, axis=-1)),
}
