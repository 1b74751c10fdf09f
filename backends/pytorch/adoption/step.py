"""A user's own whole torch step, and the modules and optimizers that it moves in place, as a trainer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from lockstep.backends.adoption import Draw, check_kind, failing
from lockstep.backends.problem import Array, Batch
from lockstep.backends.protocol import Scalar, Snapshot
from lockstep.backends.pytorch.adoption.copying import Remedy, copied
from lockstep.backends.pytorch.adoption.parts import array, trained
from lockstep.backends.pytorch.adoption.reachable import Reached, walked
from lockstep.backends.pytorch.adoption.state import Functions, Made, State, begun
from lockstep.backends.pytorch.adoption.trainer import TorchAdopted
from lockstep.backends.steps import FACTORY, Call, GivenStep, Step, UndividedTrainer, loss_of

REMEDY = Remedy(FACTORY, "step(state, batch) is called with the state")

GRAD = ":grad"
"""Ends the name of a gradient that a step leaves: the next one may add to it."""

UNCALLED = Functions(lambda output, y: output, lambda module, x: x, None)
"""Of a step that is called as a whole."""


@dataclass
class StepState(State):
    """Live copies of all that a step moves.

    Attributes:
        given: what the step is called with.
        function: the step.
    """

    given: Any = None
    function: Step = print


class Modules(nn.Module):
    """Several modules under names of their own."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, one in modules.items():
            self.add_module(name.replace(".", "_"), one)


@dataclass(frozen=True)
class StepCopies:
    """Fresh states are copies of the user's objects.

    Attributes:
        name: of the trainer, for errors.
        start: the user's objects.
    """

    name: str
    start: StepState

    def fresh(self) -> StepState:
        """Another state that starts where the user's objects are.

        Raises:
            AdoptionError: they cannot be copied.
        """
        one = self.start
        parts = {"module": one.module, "optimizer": one.optimizer, "state": one.given, "step": one.function}
        made = copied(self.name, parts, REMEDY)
        return begun(state_of(made["module"], made["optimizer"], made["state"], made["step"]))


class MadeStep(Made):
    """Fresh states are made by a function of the user's that makes (step, state)."""

    def _made(self) -> StepState:
        with failing(f"{self._name}: what makes its step failed", FACTORY):
            made = self._make()
        start = found(*made)
        check_kind(self._name, "what its function makes", made, start is not None, FACTORY)
        assert start is not None
        return begun(start)


class TorchStep(UndividedTrainer, TorchAdopted):
    """See `lockstep.adopt_step`."""

    capabilities = UndividedTrainer.capabilities | {"widen"}

    def __init__(self, source: Any, seed: int | None, name: str, *, wide: bool = False) -> None:
        super().__init__(source, seed, name, wide=wide)
        self._call = Call(name, source.start.function, source.start.given)

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        return ()

    def step(self, state: Any, batch: Batch) -> tuple[State, Scalar]:
        x, y = self._as_tensors(batch)
        with self._arithmetic(), self._seeded(state.step):
            result = state.function(*self._call.arguments(state.given, x, y))
        loss = loss_of(self.name, state.function, result, self.dtype)
        state.step += 1
        return state, loss.detach().clone() if isinstance(loss, torch.Tensor) else loss

    def read(self, state: State) -> Snapshot:
        snapshot = super().read(state)
        return dataclasses.replace(snapshot, extra={**snapshot.extra, **_gradients(state.module)})

    def write(self, state: State, snapshot: Snapshot) -> State:
        state = super().write(state, snapshot)
        for name, one in trained(state.module).items():
            given = snapshot.extra.get(name + GRAD)
            one.grad = None if given is None else self._tensor(given)
        return state

    def _wound(self, state: State, step: int) -> State:
        return state  # schedulers are stepped by the user's own code


def adopt_step(given: GivenStep) -> TorchStep | None:
    """The trainer of a step, where its state holds torch modules; else None."""
    start = found(given.step, given.state)
    if start is None:
        return None
    if given.make is not None:
        return TorchStep(MadeStep(given.name, given.make, UNCALLED), given.seed, given.name)
    return TorchStep(StepCopies(given.name, start), given.seed, given.name)


def found(step: Step, given: Any) -> StepState | None:
    """All that a step moves: the modules and optimizers that its state holds, or the step itself; None where there are no modules."""
    reached = [one for one in walked({"": given, " ": step}) if not _is_global(one, given)]
    modules = _outermost([one for one in reached if _is_model(one)])
    optimizers = [one for one in reached if isinstance(one.value, torch.optim.Optimizer)]
    inner = {id(one.value) for outer in optimizers for one in _inside(outer.value)}
    optimizers = [one for one in optimizers if id(one.value) not in inner]
    if not modules:
        return None
    module = modules[0].value if len(modules) == 1 else Modules(_named(modules))
    optimizer = optimizers[0].value if len(optimizers) == 1 else SimpleNamespace(**_named(optimizers))
    return state_of(module, optimizer, given, step)


def state_of(module: nn.Module, optimizer: Any, given: Any, step: Step) -> StepState:
    """A state of these objects. What is neither a module nor an optimizer is carried with the schedulers."""
    others = list(given) if isinstance(given, tuple) else given
    alone = others is None or isinstance(others, (nn.Module, torch.optim.Optimizer))
    return StepState(module, optimizer, None if alone else others, UNCALLED, given=given, function=step)


def _is_global(one: Reached, given: Any) -> bool:
    """Whether a step looks it up by a name, and it does not train: a loss, or a frozen model."""
    trains = isinstance(one.value, nn.Module) and any(each.requires_grad for each in one.value.parameters())
    return " (global " in one.place and not trains


def _is_model(one: Reached) -> bool:
    held = one.value
    return isinstance(held, nn.Module) and any(
        True for each in (held.parameters(), held.buffers()) for _ in each
    )


def _outermost(modules: list[Reached]) -> list[Reached]:
    """Those that no other of them contains."""
    inner = {id(part) for one in modules for part in one.value.modules() if part is not one.value}
    return [one for one in modules if id(one.value) not in inner]


def _inside(optimizer: torch.optim.Optimizer) -> Iterator[Reached]:
    """The optimizers that an optimizer wraps."""
    for one in walked({"": optimizer}, with_globals=False):
        if isinstance(one.value, torch.optim.Optimizer) and one.value is not optimizer:
            yield one


def _named(reached: list[Reached]) -> dict[str, Any]:
    """Each under the words of its place: ``['nets'].critic`` is ``nets.critic``."""
    named: dict[str, Any] = {}
    for one in reached:
        name = ".".join(re.findall(r"\w+", one.place)) or type(one.value).__name__
        named[f"{name}_{len(named)}" if name in named else name] = one.value
    return named


def _gradients(module: nn.Module) -> dict[str, Array]:
    return {name + GRAD: array(one.grad) for name, one in trained(module).items() if one.grad is not None}
