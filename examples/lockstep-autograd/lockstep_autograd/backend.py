"""The backend: what it is called, what it trains, what its numbers depend on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Trainer, Unsupported, unsupported
from lockstep_autograd.activations import ACTIVATIONS
from lockstep_autograd.averages import AVERAGES
from lockstep_autograd.clips import CLIPS
from lockstep_autograd.layers import LAYERS
from lockstep_autograd.losses import ELEMENTS, PENALTIES
from lockstep_autograd.optimizers import OPTIMIZERS
from lockstep_autograd.schedules import SCHEDULES
from lockstep_autograd.trainer import AutogradTrainer

MEMBERS = {
    "layer": {*LAYERS, *ACTIVATIONS},
    "loss": ELEMENTS,
    "penalty": PENALTIES,
    "clip": CLIPS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "average": AVERAGES,
}
"""Kind -> the names that it knows; every argument of these is honoured."""


class AutogradBackend:
    """HIPS autograd on NumPy, one operation at a time."""

    name = "autograd"

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, MEMBERS)

    def trainer(self, problem: Problem) -> Trainer:
        return AutogradTrainer(problem)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {"version": version("autograd"), "numpy": version("numpy"), "reduced_precision": False}
