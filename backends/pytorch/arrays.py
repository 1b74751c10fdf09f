"""Tensors as NumPy's arrays in the canonical layout."""

from __future__ import annotations

import numpy as np
import torch

from lockstep.backends.problem import Array
from lockstep.backends.pytorch.layers import Leaf


def as_array(tensor: torch.Tensor) -> Array:
    """A copy: .numpy() would alias the live tensor. NumPy has no bfloat16; a float32 holds each of its numbers."""
    plain = tensor.detach().cpu()
    array: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy().copy()
    return array


def canonical(tensor: torch.Tensor, leaf: Leaf) -> Array:
    """A copy in the canonical layout.

    Args:
        tensor: in torch's layout, or several of them along leading axes.
        leaf: where torch keeps it.
    """
    array = as_array(tensor)
    if leaf.axes is None:
        return array
    leading = array.ndim - len(leaf.axes)
    return np.ascontiguousarray(array.transpose(*range(leading), *(leading + np.argsort(leaf.axes))))
