"""Taps on the layers' outputs: what follows sees other values, what comes before another cotangent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def tapped(
    layer: str, output: torch.Tensor, inject: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor whose derivative is the cotangent of a layer's output, and what the next layer gets.

    Args:
        layer: its name.
        output: what it computed.
        inject: ``forward/<layer>`` and ``cotangent/<layer>``, to go on with instead.
    """
    tap = output
    if (cotangent := inject.get(f"cotangent/{layer}")) is not None:
        tap = _WithCotangent.apply(output, cotangent)  # type: ignore[no-untyped-call]
    value = tap
    if (other := inject.get(f"forward/{layer}")) is not None:
        value = _WithValue.apply(tap, other)  # type: ignore[no-untyped-call]
    return tap, value


class _WithValue(torch.autograd.Function):
    """Another value; the cotangent goes to the one that it stands for."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return other.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor, None]:
        return cotangents[0], None


class _WithCotangent(torch.autograd.Function):
    """The value as it is; whatever cotangent comes back, the other is passed on."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cotangent)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor, None]:
        (cotangent,) = ctx.saved_tensors
        return cotangent, None
