"""A hand-written NumPy function as a torch.autograd.Function, so that torch's gradcheck can judge its VJP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lockstep.backends.numpy_vjp.function import Function


def wrap(f: Function) -> Callable[..., torch.Tensor]:
    """`f` as a differentiable function of tensors: ``wrap(f)(x)`` or ``wrap(f)(x, w)``, on the CPU.

    Forward saves x and w; backward calls the hand-written VJP at them, once (no second derivatives).
    """

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
            ctx.save_for_backward(x, w)
            return _tensor(f(*_arrays(x, w)), x)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            x, w = ctx.saved_tensors
            grads = f.make_vjp(*_arrays(x, w))(grad_outputs[0].numpy())
            return tuple(None if grad is None else _tensor(grad, x) for grad in grads)

    def wrapped(x: torch.Tensor, w: torch.Tensor | None = None) -> torch.Tensor:
        result: torch.Tensor = Wrapped.apply(x, w)  # type: ignore[no-untyped-call]
        return result

    return wrapped


def _arrays(x: torch.Tensor, w: torch.Tensor | None) -> tuple[Any, Any]:
    return x.detach().numpy(), None if w is None else w.detach().numpy()


def _tensor(value: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(np.asarray(value), dtype=like.dtype)
