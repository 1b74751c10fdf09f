"""Averages of the parameters by torch.optim.swa_utils.AveragedModel, a second module next to the trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lockstep.backends.ops import Args

Averaging = Callable[[nn.Module, int], AveragedModel | None]
"""(module, updates made) -> its average, to be filled with that of those updates if there were any."""


def _ema(decay: float, debias: bool) -> Averaging:
    """AveragedModel copies the first update's parameters; where it is to be debiased it goes on from zero instead."""

    def average(module: nn.Module, updates: int) -> AveragedModel:
        averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
        averaged.n_averaged.fill_(updates)
        if debias and not updates:
            averaged.n_averaged.fill_(1)
            with torch.no_grad():
                for parameter in averaged.parameters():
                    parameter.zero_()
        return averaged

    return average


AVERAGES: Mapping[str, Callable[[Args], Averaging]] = {
    "none": lambda args: lambda module, updates: None,
    "ema": lambda args: _ema(float(args["decay"]), bool(args["debias"])),
}
