"""Averages of the parameters by optax.incremental_update, whose first value is a copy or zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lockstep.backends.ops import Args


class Averaging(NamedTuple):
    """A running average of parameters.

    Attributes:
        init: parameters before the first update -> average, in buffers of its own.
        update: (average, parameters after an update, that update's number from 1) -> average.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, jax.Array], Any]


def _ema(decay: float, debias: bool) -> Averaging:
    """From a copy as torch's AveragedModel, or from zero as optax.ema, whose undivided state it then is."""

    def update(average: Any, params: Any, number: jax.Array) -> Any:
        blended = optax.incremental_update(params, average, 1 - decay)
        if debias:
            return blended
        return jax.tree.map(lambda new, w: jnp.where(number == 1, w, new), blended, params)

    start = jnp.zeros_like if debias else jnp.copy
    return Averaging(lambda params: jax.tree.map(start, params), update)


AVERAGES: Mapping[str, Callable[[Args], Averaging]] = {
    "none": lambda args: Averaging(lambda params: {}, lambda average, params, number: {}),
    "ema": lambda args: _ema(float(args["decay"]), bool(args["debias"])),
}
