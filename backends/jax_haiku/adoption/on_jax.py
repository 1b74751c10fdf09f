"""Where adopted JAX code runs: in which versions, on which device, and with which of JAX's precisions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import jax
import optax

from lockstep.backends.jax_haiku import devices


class OnJax:
    """What all adopted trainers of JAX share."""

    _x64: bool

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": jax.__version__,
            "optax": optax.__version__,
            "x64": self._x64,
            **devices.describe(jax.devices()[0]),
        }

    def _precision(self) -> AbstractContextManager[object]:
        """JAX's x64 switch as it was when the code was adopted; float64 parameters need it."""
        switch: AbstractContextManager[object] = jax.enable_x64(self._x64)
        return switch


def needs_x64(dtype: str) -> bool:
    """Whether code with parameters of this dtype runs with JAX's x64 switch on."""
    return bool(jax.config.values["jax_enable_x64"]) or dtype == "float64"
