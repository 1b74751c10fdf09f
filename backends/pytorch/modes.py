"""Other ways to run the same torch training: the model compiled, the optimizer over all parameters at once, a GPU."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import nn

from lockstep.backends.problem import Problem
from lockstep.backends.protocol import Snapshot, Unsupported
from lockstep.backends.pytorch.backend import State, TorchBackend, TorchTrainer
from lockstep.backends.pytorch.optimizers import OPTIMIZERS

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]

SIZES = 64
"""How many sizes of batch are compiled."""

TAKES_LIMIT = "recompile_limit" in inspect.signature(torch.compile).parameters
"""Whether this torch is given that limit for one function; an older one has it for the whole process."""

OPTIONS: dict[str, Any] = {
    # Where torch would go on without compiling, after a graph break or too many sizes of batch, it raises instead.
    "fullgraph": True,
    **({"recompile_limit": SIZES} if TAKES_LIMIT else {}),
    # One program for each size of batch. Otherwise what ran before decides: after a second size torch compiles for
    # any size, whose sums are rounded otherwise, for later models of the process too.
    "dynamic": False,
    # Programs are not kept on disk: their key is pickled, pickle asks every loaded module for names, and Haiku
    # answers with an ImportError where Flax is not installed.
    "options": {"fx_graph_cache": False},
}


class CompiledTrainer(TorchTrainer):
    """The model's forward and backward pass by torch.compile, one program for all states; the optimizer stays eager."""

    def __init__(self, problem: Problem, device: str = "cpu") -> None:
        super().__init__(problem, device)
        self._compiled: Forward = torch.compile(_of_its_own(_call), **OPTIONS)

    def _state(self, snapshot: Snapshot) -> State:
        state = super()._state(snapshot)
        return replace(state, forward=partial(self._quietly, state.module))

    def _quietly(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Without the warnings of the compiler about what torch itself does, at each size's first call."""
        with warnings.catch_warnings(), nullcontext() if TAKES_LIMIT else _limited():
            warnings.simplefilter("ignore")
            return self._compiled(module, x)


def _call(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    # Not module.compile(): torch skips the frames of its own containers, and would compile nothing.
    output: torch.Tensor = module(x)
    return output


def _limited() -> AbstractContextManager[object]:
    """The limit of the process while a function is called."""
    import torch._dynamo

    patched: AbstractContextManager[object] = torch._dynamo.config.patch(recompile_limit=SIZES)
    return patched


def _of_its_own(function: Forward) -> Forward:
    """A copy whose programs torch counts separately: its limit, 256 a process, is that of a code object."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__)


class TorchCompileBackend(TorchBackend):
    """torch.compile, which needs a C++ compiler on a CPU."""

    name = "torch:compile"
    kind = CompiledTrainer


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


class TorchForeachBackend(_FlaggedBackend):
    """The optimizer's foreach form."""

    name = "torch:foreach"
    kind = ForeachTrainer


class TorchFusedBackend(_FlaggedBackend):
    """The optimizer's fused form."""

    name = "torch:fused"
    kind = FusedTrainer


class TorchCudaBackend(TorchBackend):
    """Everything on a GPU, where torch takes the optimizer's foreach form by itself."""

    name = "torch:cuda"
    device = "cuda"
