"""Averages of the parameters, updated next to training as pure pairs like the optimizers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays


class Averaging(NamedTuple):
    """A running average of named arrays.

    Attributes:
        init: parameters before the first update -> average.
        update: (average, parameters after an update, that update's number from 1) -> average.
    """

    init: Callable[[Arrays], dict[str, Array]]
    update: Callable[[Arrays, Arrays, int], dict[str, Array]]


def ema(decay: float, debias: bool) -> Averaging:
    """A ← d a + (1 − d) w, from a copy of the first update's w or, to be debiased, from zero."""

    def init(parameters: Arrays) -> dict[str, Array]:
        return {name: np.zeros_like(w) if debias else np.array(w) for name, w in parameters.items()}

    def update(average: Arrays, parameters: Arrays, number: int) -> dict[str, Array]:
        d = 0.0 if number == 1 and not debias else decay
        return {name: d * average[name] + (1 - d) * w for name, w in parameters.items()}

    return Averaging(init, update)


NONE = Averaging(lambda parameters: {}, lambda average, parameters, number: {})

AVERAGES: Mapping[str, Callable[[Args], Averaging]] = {
    "none": lambda args: NONE,
    "ema": lambda args: ema(args["decay"], bool(args["debias"])),
}
