"""Schedules: what the learning rate is multiplied with at update t = 0, 1, 2, ..., in Python's floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lockstep.backends.ops import Args


def _piecewise(t: int, args: Args) -> float:
    reached = zip(args["boundaries"], args["factors"], strict=True)
    return math.prod(factor for boundary, factor in reached if boundary <= t)


def _cosine(share: float, final: float) -> float:
    return final + (1 - final) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def _warmup_cosine(t: int, args: Args) -> float:
    warmup = args["warmup"]
    return t / warmup if t < warmup else _cosine((t - warmup) / (args["steps"] - warmup), args["final"])


SCHEDULES: Mapping[str, Callable[[int, Args], float]] = {
    "constant": lambda t, args: 1.0,
    "step": lambda t, args: args["factor"] ** (t // args["steps"]),
    "piecewise": _piecewise,
    "exponential": lambda t, args: args["factor"] ** t,
    "polynomial": lambda t, args: (1 - min(t / args["steps"], 1.0)) ** args["power"],
    "cosine": lambda t, args: _cosine(t / args["steps"], args["final"]),
    "warmup_cosine": _warmup_cosine,
}
