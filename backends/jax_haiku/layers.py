"""The model's layers as Haiku modules, and where Haiku keeps their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax

from backends.ops import Args


class Row(NamedTuple):
    """How one op is written in Haiku.

    Attributes:
        build: (arguments, module name) -> a callable module; called inside `hk.transform`.
        leaves: canonical parameter name -> Haiku's; Haiku's shapes are the canonical ones.
    """

    build: Callable[[Args, str], Callable[[jax.Array], jax.Array]]
    leaves: Mapping[str, str] = {}


FUNCTIONS: Mapping[str, Row] = {
    "dot": Row(lambda args, name: hk.Linear(int(args["size"]), with_bias=False, name=name), {"w": "w"}),
    # hk.Bias would give b the shape of all trailing axes; the canonical b is (out,).
    "add": Row(lambda args, name: hk.Bias(bias_dims=[-1], name=name), {"b": "b"}),
    "linear": Row(lambda args, name: hk.Linear(int(args["size"]), name=name), {"w": "w", "b": "b"}),
}
