"""The masks that torch code draws, observed and replaced where the dispatcher calls a Bernoulli draw: nothing of the code is changed.

Dropout of every kind, that inside attention and LSTM too, comes down to one on the CPU, and to native_dropout elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lockstep.backends.adoption import Draw, Given
from lockstep.backends.problem import Arrays

aten = torch.ops.aten
DRAWS = frozenset({aten.bernoulli, aten.bernoulli_, aten.native_dropout})

Drawn = Callable[[float, tuple[int, ...]], torch.Tensor | None]
"""(probability of 1, shape) -> the mask, as booleans; or None: let it be drawn."""


class Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, each draw is made by `drawn`."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._drawn = drawn

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in DRAWS:
            probability = _probability(func, args, kwargs)
            mask = None if probability is None else self._drawn(probability, tuple(args[0].shape))
            if mask is not None:
                return _result(func, args, mask.to(args[0].device))
        return func(*args, **kwargs)


@contextmanager
def replaced(name: str, masks: Arrays) -> Iterator[None]:
    """With these masks in place of those that would be drawn.

    Raises:
        AdoptionError: others are drawn than these.
    """
    if not masks:
        yield
        return
    left = Given(name, masks)
    with Drawing(lambda probability, shape: torch.tensor(left.next(shape))):
        yield
    left.end()


@contextmanager
def observed(module: nn.Module) -> Iterator[list[Draw]]:
    """The masks that are drawn meanwhile, with the names of the modules that draw them; `module` gets hooks."""
    drawings: list[Draw] = []
    within = [""]

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: within.append(name)

    def leave(*_: Any) -> None:
        within.pop()

    for name, submodule in module.named_modules():
        submodule.register_forward_pre_hook(enter(name))
        submodule.register_forward_hook(leave)

    def drawn(probability: float, shape: tuple[int, ...]) -> None:
        drawings.append(Draw(within[-1] or f"draw {len(drawings)}", 1 - probability, shape))

    with Drawing(drawn):
        yield drawings


def _probability(func: Any, args: Any, kwargs: Any) -> float | None:
    """The probability of 1; None where it is not one for all elements, or nothing is dropped."""
    if func.overloadpacket is aten.native_dropout:
        return None if args[2] is False else 1 - args[1]
    arguments = args[:1] if func is aten.bernoulli.default else args[1:2] or [kwargs.get("p", 0.5)]
    values = torch.as_tensor(arguments[0], dtype=torch.float64).unique().tolist()  # type: ignore[no-untyped-call]
    return values[0] if len(values) == 1 and values[0] < 1 else None


def _result(func: Any, args: Any, mask: torch.Tensor) -> Any:
    """What the draw gives where `mask` was drawn."""
    if func.overloadpacket is aten.native_dropout:
        return args[0] * mask / (1 - args[1]), mask
    return args[0].copy_(mask) if func.overloadpacket is aten.bernoulli_ else mask.to(args[0].dtype)
