"""Other ways to run the same torch training: the model compiled, the optimizer over all parameters at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from backends.problem import Array, Problem
from backends.protocol import Snapshot, Unsupported
from backends.pytorch.backend import Masks, State, TorchBackend, TorchTrainer
from backends.pytorch.optimizers import OPTIMIZERS


class CompiledTrainer(TorchTrainer):
    """The model's forward and backward pass by torch.compile; the optimizer stays eager.

    Programs are not kept on disk: their key is pickled, pickle asks every loaded module for names, and Haiku
    answers with an ImportError where Flax is not installed.
    """

    def _state(self, snapshot: Snapshot) -> State:
        state = super()._state(snapshot)
        with _quiet():
            state.module.compile(options={"fx_graph_cache": False})
        return state

    def _loss_of(self, state: State, x: torch.Tensor, y: torch.Tensor, masks: Masks) -> torch.Tensor:
        with _quiet():  # the first call traces, and so does one with another shape
            return super()._loss_of(state, x, y, masks)

    def predict(self, state: State, x: Array) -> Array:
        with _quiet():
            return super().predict(state, x)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the compiler about what torch itself does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class TorchCompileBackend(TorchBackend):
    """torch.compile, which needs a C++ compiler on a CPU."""

    name = "torch:compile"

    def trainer(self, problem: Problem) -> TorchTrainer:
        return CompiledTrainer(problem)


class FlaggedTrainer(TorchTrainer):
    """The optimizer with a flag of torch's set: the same formula by another kernel."""

    flag: ClassVar[str]

    def _state(self, snapshot: Snapshot) -> State:
        state = super()._state(snapshot)
        for group in state.optimizer.param_groups:
            group[self.flag] = True
        return state


class ForeachTrainer(FlaggedTrainer):
    """One call an operation for all parameters."""

    flag = "foreach"


class FusedTrainer(FlaggedTrainer):
    """One call an update for all parameters."""

    flag = "fused"


class _FlaggedBackend(TorchBackend):
    kind: ClassVar[type[FlaggedTrainer]]

    def supports(self, problem: Problem) -> Unsupported | None:
        return super().supports(problem) or self._refusal(problem)

    def _refusal(self, problem: Problem) -> Unsupported | None:
        """Unless torch has that flag for an optimizer with these arguments, on a CPU."""
        one = problem.optimizer
        flag, parameter = self.kind.flag, nn.Parameter(torch.zeros(1))
        optimizer = OPTIMIZERS[one.name].build([parameter], one.args)
        if flag not in optimizer.param_groups[0]:
            return Unsupported(f"torch has no {flag} {one.name!r} with these arguments")
        try:
            optimizer.param_groups[0][flag] = True
            parameter.grad = torch.ones(1)
            optimizer.step()
        except RuntimeError as error:
            return Unsupported(f"torch refuses a {flag} {one.name!r} here: {error}")
        return None

    def trainer(self, problem: Problem) -> TorchTrainer:
        return self.kind(problem)


class TorchForeachBackend(_FlaggedBackend):
    """The optimizer's foreach form."""

    name = "torch:foreach"
    kind = ForeachTrainer


class TorchFusedBackend(_FlaggedBackend):
    """The optimizer's fused form."""

    name = "torch:fused"
    kind = FusedTrainer
