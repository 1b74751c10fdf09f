"""What the modules of an adopted torch model give and get back, observed and replaced on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lockstep.backends.problem import Arrays


class Observation:
    """The outputs of one forward pass and their cotangents, by module; of a module that is called again, under ``name#1``.

    Args:
        inject: ``forward/<module>`` and ``cotangent/<module>``: what follows is computed from these values.
        tensor: makes a tensor of an array, on the model's device.
    """

    def __init__(self, inject: Arrays, tensor: Callable[[Any], torch.Tensor]) -> None:
        self._inject, self._tensor = inject, tensor
        self._calls: dict[str, int] = {}
        self.outputs: dict[str, torch.Tensor] = {}
        self.cotangents: dict[str, torch.Tensor] = {}

    def watch(self, module: nn.Module) -> None:
        """Observe every module within this one."""
        for name, part in module.named_modules():
            if name:
                part.register_forward_hook(self._hook(name))

    def passed(self, name: str, output: torch.Tensor) -> torch.Tensor:
        """The output as what follows is computed from it."""
        self.outputs[name] = output.detach().clone()
        value = self._injected("forward", name, output)
        cotangent = self._injected("cotangent", name, output)
        passed: torch.Tensor = _Exchange.apply(output, value, cotangent, self._keep(name))  # type: ignore[no-untyped-call]
        return passed

    def _keep(self, name: str) -> Callable[[torch.Tensor], None]:
        def keep(grad: torch.Tensor) -> None:
            self.cotangents[name] = grad.detach().clone()

        return keep

    def _hook(self, name: str) -> Callable[[Any, Any, Any], Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) and output else output
            calls = self._calls.get(name, 0)
            self._calls[name] = calls + 1
            if not isinstance(first, torch.Tensor):
                return None
            passed = self.passed(f"{name}#{calls}" if calls else name, first)
            if not isinstance(output, tuple):
                return passed
            rest = (passed, *output[1:])
            return type(output)(*rest) if hasattr(output, "_fields") else rest

        return hook

    def _injected(self, kind: str, name: str, like: torch.Tensor) -> torch.Tensor | None:
        value = self._inject.get(f"{kind}/{name}")
        if value is None or value.shape != tuple(like.shape):
            return None
        return self._tensor(value).to(like.dtype)


class _Exchange(torch.autograd.Function):
    """Another value on the way forward, another cotangent on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        output: torch.Tensor,
        value: torch.Tensor | None,
        cotangent: torch.Tensor | None,
        keep: Callable[[torch.Tensor], None],
    ) -> torch.Tensor:
        ctx.cotangent, ctx.keep = cotangent, keep
        return (output if value is None else value).clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        ctx.keep(grad)
        return (grad if ctx.cotangent is None else ctx.cotangent), None, None, None
