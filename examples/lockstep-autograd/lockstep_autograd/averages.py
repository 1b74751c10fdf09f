"""Averages of the parameters, kept beside training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Arrays


def _start(parameters: Arrays, args: Args) -> Arrays:
    return {name: np.zeros_like(w) if args["debias"] else w for name, w in parameters.items()}


def _ema(average: Arrays, parameters: Arrays, t: int, args: Args) -> Arrays:
    if t == 1 and not args["debias"]:
        return parameters
    d = args["decay"]
    return {name: d * average[name] + (1 - d) * w for name, w in parameters.items()}


STARTS: Mapping[str, Callable[[Arrays, Args], Arrays]] = {"none": lambda parameters, args: {}, "ema": _start}
"""Name -> the average before the first update."""

AVERAGES: Mapping[str, Callable[[Arrays, Arrays, int, Args], Arrays]] = {
    "none": lambda average, parameters, t, args: {},
    "ema": _ema,
}
"""Name -> the average after update t = 1, 2, ..., of the one before and the parameters."""
