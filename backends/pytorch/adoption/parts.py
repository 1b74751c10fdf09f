"""What an adopted torch module and optimizer hold, by name, and as NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.backends.problem import Array
from lockstep.backends.pytorch.arrays import as_array


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that have gradients, by name; frozen parameters are treated as buffers."""
    return {name: one for name, one in sorted(module.named_parameters()) if one.requires_grad}


def untrained(module: nn.Module) -> dict[str, torch.Tensor]:
    """Frozen parameters and floating-point buffers, by name."""
    frozen = {name: one for name, one in module.named_parameters() if not one.requires_grad}
    buffers = {name: one for name, one in module.named_buffers() if one.is_floating_point()}
    return dict(sorted({**frozen, **buffers}.items()))


def serialise_slot(slot: str, name: str, value: Any) -> tuple[str, Array]:
    """A slot of an optimizer's state under the name that a snapshot gives it: a number of Python's own has its kind in it."""
    if isinstance(value, torch.Tensor):
        return f"{slot}/{name}", array(value)
    return f"{slot}:{type(value).__name__}/{name}", np.array(value)


def array(tensor: torch.Tensor) -> Array:
    """A copy; the gradient of a sparse embedding is expanded."""
    return as_array(tensor.to_dense())


def dtype(tensor: torch.Tensor) -> str:
    """Its name: ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")
