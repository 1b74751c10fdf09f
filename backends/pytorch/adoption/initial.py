"""The initial numbers of a user's torch module, as it was built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lockstep.backends.adoption import leaves
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.backends.pytorch.adoption.trainer import TorchAdopted


def initial(given: object) -> Snapshot | None:
    """Of a module, of a trainer that was adopted from one, or of a state dict, all of whose tensors are parameters."""
    if isinstance(given, TorchAdopted):
        given = given.module
    if isinstance(given, nn.Module):
        parameters = {name: _view(one) for name, one in sorted(given.named_parameters())}
        return Snapshot(parameters, buffers={name: _view(one) for name, one in sorted(given.named_buffers())})
    tensors = leaves(given)
    if not tensors or not all(isinstance(one, torch.Tensor) for one in tensors.values()):
        return None
    return Snapshot({name: _view(one) for name, one in sorted(tensors.items())})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """With torch's global generators seeded."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """As `torch.nn.init` counts them: a weight is (out, in, kernel)."""
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _view(tensor: torch.Tensor) -> Array:
    """The tensor's own memory where it lies on the CPU."""
    plain = tensor.detach().cpu()
    # NumPy has no bfloat16; a float32 holds each of its numbers.
    array: Array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    return array
