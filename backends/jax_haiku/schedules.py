"""The schedules of Optax with the stated arguments, as learning rates of the update's count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from lockstep.backends.ops import Args

Rate = float | Callable[[Any], Any]
"""A learning rate, or that of an update's count: optax.Schedule, which is untyped."""


def _step(rate: float, args: Args) -> optax.Schedule:
    steps, factor = int(args["steps"]), float(args["factor"])
    return optax.exponential_decay(rate, steps, factor, staircase=True)


def _piecewise(rate: float, args: Args) -> optax.Schedule:
    return optax.piecewise_constant_schedule(
        rate, dict(zip(args["boundaries"], args["factors"], strict=True))
    )


def _polynomial(rate: float, args: Args) -> optax.Schedule:
    return optax.polynomial_schedule(rate, 0.0, float(args["power"]), int(args["steps"]))


def _warmup_cosine(rate: float, args: Args) -> optax.Schedule:
    warmup, steps, end = int(args["warmup"]), int(args["steps"]), rate * float(args["final"])
    return optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps, end)


SCHEDULES: Mapping[str, Callable[[float, Args], Rate]] = {
    "constant": lambda rate, args: rate,
    "step": _step,
    "piecewise": _piecewise,
    "exponential": lambda rate, args: optax.exponential_decay(rate, 1, float(args["factor"])),
    "polynomial": _polynomial,
    "cosine": lambda rate, args: optax.cosine_decay_schedule(rate, int(args["steps"]), float(args["final"])),
    "warmup_cosine": _warmup_cosine,
}


def scheduled(rate: float, name: str, args: Args) -> Rate:
    """The learning rate: a number where it is constant, as users write it, else a schedule.

    A traced int32 count would give a float32 rate even under x64, so the count is made a default float first.
    """
    schedule = SCHEDULES[name](rate, args)
    if not callable(schedule):
        return schedule
    return lambda count: schedule(jnp.asarray(count, jnp.result_type(float)))
