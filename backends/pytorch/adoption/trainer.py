"""A user's own torch module, loss and optimizer as a trainer. Each state is a deep copy: theirs are never touched."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.backends.adoption import (
    AdoptedTrainer,
    AdoptionError,
    Draw,
    Tree,
    called,
    check_kind,
    check_names,
    common_dtype,
    failing,
    leaves,
    mapped,
)
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Scalar, Snapshot, select
from lockstep.backends.pytorch import devices
from lockstep.backends.pytorch.adoption import draws
from lockstep.backends.pytorch.adoption.observation import Observation
from lockstep.backends.pytorch.adoption.parts import (
    array,
    dtype,
    serialise_slot,
    trained,
    untrained,
)

Grads = dict[str, torch.Tensor | None]
"""By parameter; None where the loss does not depend on it, which torch's optimizers pass over."""


@dataclass
class State:
    """Live copies, changed in place by every step."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    step: int = 0


class TorchAdopted(AdoptedTrainer):
    """See `adopt`."""

    capabilities = AdoptedTrainer.capabilities | {"inject"}

    def __init__(
        self,
        start: State,
        loss: Callable[[Any, Any], torch.Tensor],
        forward: Callable[[nn.Module, Any], Any],
        before_update: Callable[[nn.Module], object] | None,
        seed: int | None,
        name: str,
    ) -> None:
        self.name = name
        self._start = start
        self._loss, self._forward, self._before_update = loss, forward, before_update
        self._seed = seed
        # Whether a batch's own memory may be given, as a bare loop does; not before one was observed to stay unchanged.
        self._shares: bool | None = None
        # Of which the last gradients were sparse, and of which there were none.
        self._sparse, self._unused = set[str](), set[str]()
        parameters = trained(start.module)
        self.dtype = common_dtype(name, {key: dtype(one) for key, one in parameters.items()})
        self._device = next(iter(parameters.values())).device
        _check_optimizer(name, start)

    @property
    def module(self) -> nn.Module:
        """The user's own, of which every run trains a copy."""
        return self._start.module

    @property
    def generator(self) -> str:
        return "" if self._seed is None else f"torch, seed {self._seed}"

    def redrawn(self) -> TorchAdopted | None:
        if self._seed is None:
            return None
        return TorchAdopted(
            self._start, self._loss, self._forward, self._before_update, self._seed + 1, self.name
        )

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        module = self.init().module
        x, y = self._as_tensors(batch)
        # Outside the run: what is drawn here leaves the user's generator as it was.
        with torch.random.fork_rng(), torch.no_grad(), draws.observed(module) as drawings:
            self._loss(self._forward(module, x), y)
        return tuple(drawings)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": str(torch.__version__),
            "threads": torch.get_num_threads(),
            **devices.describe(self._device),
        }

    def init(self) -> State:
        try:
            return copy.deepcopy(self._start)
        except Exception as error:
            raise AdoptionError(
                f"{self.name}: it cannot be copied, and each run needs a copy of its own",
                f"{type(error).__name__}: {error}",
                "adopt a module, an optimizer and a scheduler that copy.deepcopy can copy",
            ) from error

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state.optimizer.zero_grad(set_to_none=True)
        with self._seeded(state.step):
            loss = self._loss_of(state.module, batch)
            loss.backward()  # type: ignore[no-untyped-call]
        return self._update(state), loss.detach()

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        state.optimizer.zero_grad(set_to_none=True)
        with self._seeded(state.step):
            loss = self._loss_of(state.module, batch)
            loss.backward()  # type: ignore[no-untyped-call]
        grads = {name: one.grad for name, one in trained(state.module).items()}
        self._unused = {name for name, one in grads.items() if one is None}
        self._sparse |= {name for name, one in grads.items() if one is not None and one.is_sparse}
        state.optimizer.zero_grad(set_to_none=True)
        return state, loss.detach(), grads

    def apply(self, state: State, grads: Grads) -> State:
        for name, one in trained(state.module).items():
            one.grad = grads[name]
        return self._update(state)

    def _update(self, state: State) -> State:
        if self._before_update is not None:
            self._before_update(state.module)
        state.optimizer.step()
        if state.scheduler is not None:
            with warnings.catch_warnings():
                # A scheduler marks the optimizer that it was made with, and a copy has lost the mark.
                warnings.filterwarnings("ignore", message="Seems like `optimizer.step", category=UserWarning)
                state.scheduler.step()
        state.step += 1
        return state

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        module = copy.deepcopy(state.module)  # buffers move with a forward pass, and hooks are ours
        observation = Observation(inject, self._tensor)
        observation.watch(module)
        x, y = self._as_tensors(batch)
        with self._seeded(state.step), draws.replaced(self.name, batch.masks):
            output = self._forward(module, x)
            if isinstance(output, torch.Tensor):
                output = observation.passed("output", output)
            loss = self._loss(output, y)
            stages = {f"forward/{name}": array(value) for name, value in observation.outputs.items()}
            stages["loss"] = array(loss)
            if loss.requires_grad and not {"cotangent", "gradient"}.isdisjoint(wanted):
                loss.backward()  # type: ignore[no-untyped-call]
                stages |= self._backward(module, observation)
        return select(stages, wanted)

    def _backward(self, module: nn.Module, observation: Observation) -> dict[str, Array]:
        """The stages of the backward pass, in its order."""
        cotangents = {f"cotangent/{name}": array(value) for name, value in observation.cotangents.items()}
        grads = {name: one.grad for name, one in trained(module).items()}
        return {**cotangents, **{f"gradient/{name}": value for name, value in self.read_grads(grads).items()}}

    def predict(self, state: State, x: Array) -> Array:
        module = copy.deepcopy(state.module).eval()
        with torch.no_grad():
            return array(self._forward(module, mapped(self._tensor, x)))

    def read(self, state: State) -> Snapshot:
        return Snapshot(
            {name: array(one) for name, one in trained(state.module).items()},
            dict(
                serialise_slot(key, name, value)
                for name, slots in self._slots(state).items()
                for key, value in sorted(slots.items())
                if isinstance(value, (torch.Tensor, int, float))
            ),
            state.step,
            {name: array(one) for name, one in untrained(state.module).items()},
        )

    def write(self, state: State, snapshot: Snapshot) -> State:
        """The state that continues from `snapshot`; a scheduler is stepped up to its step."""
        parameters, buffers = trained(state.module), untrained(state.module)
        check_names(self.name, snapshot.parameters, parameters)
        with torch.no_grad():
            for name, value in snapshot.parameters.items():
                parameters[name].copy_(self._tensor(value))
            for name, value in snapshot.buffers.items():
                buffers[name].copy_(self._tensor(value))
        if snapshot.step != state.step and state.scheduler is not None:
            state = self._wound(state, snapshot.step)
        state.step = snapshot.step
        self._load(state, snapshot.optimizer)
        return state

    def _wound(self, state: State, step: int) -> State:
        """The state with the scheduler, and the rates that it sets, as they are before `step`."""
        fresh = self.init()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is stepped without its optimizer on purpose
            for _ in range(step):
                fresh.scheduler.step()
        fresh.module.load_state_dict(state.module.state_dict())
        return fresh

    def _load(self, state: State, optimizer: Arrays) -> None:
        """The optimizer's state, by parameter; what is not in the snapshot it makes anew."""
        state.optimizer.state.clear()
        named = dict(state.module.named_parameters())
        for key, value in optimizer.items():
            slot, _, name = key.partition("/")
            slots = state.optimizer.state[named[name]]
            slot, _, kind = slot.partition(":")
            if kind:
                slots[slot] = value.item()
                continue
            tensor = torch.tensor(value)
            # A count stands on the CPU, as torch keeps it, unless the optimizer is capturable.
            slots[slot] = tensor if slot == "step" else tensor.to(self._device)

    def _slots(self, state: State) -> dict[str, dict[str, Any]]:
        return {
            name: state.optimizer.state[one]
            for name, one in sorted(state.module.named_parameters())
            if one in state.optimizer.state
        }

    def read_grads(self, grads: Grads) -> Arrays:
        like = trained(self._start.module)
        return {
            name: np.zeros(tuple(like[name].shape), self.dtype) if one is None else array(one)
            for name, one in sorted(grads.items())
        }

    def write_grads(self, arrays: Arrays) -> Grads:
        check_names(self.name, arrays, trained(self._start.module))
        return {
            name: None if name in self._unused and not value.any() else self._gradient(name, value)
            for name, value in arrays.items()
        }

    def _gradient(self, name: str, value: Array) -> torch.Tensor:
        """In the form in which the code gives it: an embedding's may be rows."""
        tensor = self._tensor(value)
        return tensor.to_sparse(1) if name in self._sparse else tensor

    def _loss_of(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        x, y = self._as_tensors(batch, copied=not self._shares)
        with draws.replaced(self.name, batch.masks):
            loss = self._loss(self._forward(module, x), y)
        changed = any(one._version for tree in (x, y) for one in leaves(tree).values())
        if self._shares is None:
            self._shares = not changed and self._device.type == "cpu"
        elif self._shares and changed:
            raise AdoptionError(
                f"{self.name}: it changes its batch in place, but did not at its first step",
                "x or y",
                "clone what is changed in place",
            )
        return loss

    def _as_tensors(self, batch: Batch, copied: bool = True) -> tuple[Tree, Tree]:
        take = self._tensor if copied else torch.from_numpy
        return mapped(take, batch.x), mapped(take, batch.y)

    def _tensor(self, array: Array) -> torch.Tensor:
        """A copy: from_numpy would alias the caller's array."""
        return torch.tensor(array, device=self._device)

    @contextmanager
    def _seeded(self, step: int) -> Iterator[None]:
        """With the numbers of this step's own seed, and the user's random state as it was."""
        if self._seed is None:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(self._seed + 1_000_003 * step)
            yield


def adopt(
    module: nn.Module,
    loss: Callable[[Any, Any], torch.Tensor],
    optimizer: torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer],
    *,
    scheduler: Any = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    before_update: Callable[[nn.Module], object] | None = None,
    seed: int | None = None,
    name: str = "torch",
) -> TorchAdopted:
    """Your own torch training code as a trainer. Nothing of it is changed: every run works on a deep copy.

    A step is zero_grad, ``loss(module(x), y).backward()``, `before_update`, ``optimizer.step()``, ``scheduler.step()``.

    Args:
        module: in the mode it is to be trained in; its parameters float64 or float32, on their device.
        loss: (output, y) -> a scalar tensor.
        optimizer: made with this module's parameters; or what makes it, ``lambda p: torch.optim.SGD(p, lr=0.1)``.
        scheduler: made with this optimizer; stepped once after every update.
        forward: (module, x) -> output; by default ``module(x)``, with a tuple as arguments and a dict by name.
        before_update: called with the module between the backward pass and the update, to clip gradients say.
        seed: what torch's generator starts every step from, with the step's number; None leaves it alone, and code that
            draws from it is refused.
        name: what reports call it.

    Raises:
        AdoptionError: the optimizer holds other parameters, needs a closure, or the dtypes are not one.
    """
    is_module = isinstance(module, nn.Module)
    check_kind(name, "the module", module, is_module, "give a torch.nn.Module")
    check_kind(name, "the loss", loss, callable(loss), "give a function (output, y) -> a scalar tensor")
    built: Any = optimizer
    if callable(optimizer):
        with failing(
            f"{name}: what makes its optimizer failed", "give a function of parameters, or the optimizer"
        ):
            built = optimizer(module.parameters())
    is_optimizer = isinstance(built, torch.optim.Optimizer)
    check_kind(
        name,
        "the optimizer",
        built,
        is_optimizer,
        "give a torch.optim.Optimizer, or a function that makes one",
    )
    return TorchAdopted(State(module, built, scheduler), loss, forward or called, before_update, seed, name)


def _check_optimizer(name: str, start: State) -> None:
    if isinstance(start.optimizer, torch.optim.LBFGS):
        raise AdoptionError(
            f"{name}: its optimizer evaluates the loss by itself",
            "LBFGS",
            "adopt one whose step takes no closure",
        )
    if isinstance(start.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise AdoptionError(
            f"{name}: its scheduler is stepped with a metric",
            "ReduceLROnPlateau",
            "adopt one whose step takes nothing, or none",
        )
    if getattr(start.scheduler, "optimizer", start.optimizer) is not start.optimizer:
        raise AdoptionError(
            f"{name}: its scheduler was made with another optimizer, and would change nothing",
            type(start.scheduler).__name__,
            "give the optimizer itself that the scheduler was made with",
        )
    own = {id(one) for one in start.module.parameters()}
    foreign = sum(id(one) not in own for group in start.optimizer.param_groups for one in group["params"])
    if foreign:
        raise AdoptionError(
            f"{name}: its optimizer was made with parameters that the module does not have",
            f"{foreign} of them",
            "make it with module.parameters() of the module that is adopted, after it was moved or cast",
        )
