"""Schedules: the factor of the learning rate at update t = 0, 1, 2, ..., in double.

A whole number over another is taken as a number like the arguments, so that it is exact where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lockstep.backends.numpy_vjp.arithmetic import Number
from lockstep.backends.numpy_vjp.special import cos, pi
from lockstep.backends.ops import Args

Factor = Callable[[int], Number]


def _cosine(t: int, steps: int, final: Number) -> Number:
    """Half a cosine from 1 to `final`, which it keeps."""
    return final + (1 - final) * 0.5 * (1 + cos(pi(final) * min(t, steps) / steps))


def _step(args: Args) -> Factor:
    steps, factor = int(args["steps"]), args["factor"]
    return lambda t: factor ** (t // steps)


def _piecewise(args: Args) -> Factor:
    courses = list(zip(args["boundaries"], args["factors"], strict=True))
    return lambda t: math.prod(factor for boundary, factor in courses if boundary <= t)


def _exponential(args: Args) -> Factor:
    factor = args["factor"]
    return lambda t: factor**t


def _polynomial(args: Args) -> Factor:
    steps, power = int(args["steps"]), args["power"]
    return lambda t: ((0 * power + (steps - min(t, steps))) / steps) ** power


def _decay(args: Args) -> Factor:
    steps, final = int(args["steps"]), args["final"]
    return lambda t: _cosine(t, steps, final)


def _warmup_cosine(args: Args) -> Factor:
    warmup, steps, final = int(args["warmup"]), int(args["steps"]), args["final"]
    return lambda t: (0 * final + t) / warmup if t < warmup else _cosine(t - warmup, steps - warmup, final)


SCHEDULES: Mapping[str, Callable[[Args], Factor]] = {
    "constant": lambda args: lambda t: 1.0,
    "step": _step,
    "piecewise": _piecewise,
    "exponential": _exponential,
    "polynomial": _polynomial,
    "cosine": _decay,
    "warmup_cosine": _warmup_cosine,
}
