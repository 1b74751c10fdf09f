"""A user's own torch module, loss and optimizer as a trainer. Each state is a copy: theirs are never touched."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lockstep.backends.adoption import (
    AdoptedTrainer,
    AdoptionError,
    Draw,
    Narrow,
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
from lockstep.backends.pytorch.adoption import draws, widening
from lockstep.backends.pytorch.adoption.closure import evaluating_again, takes_closure
from lockstep.backends.pytorch.adoption.observation import Observation
from lockstep.backends.pytorch.adoption.parts import (
    array,
    buffers,
    coarsest,
    comparable,
    copies_of_parameters,
    counts,
    dtype,
    optimizers_in,
    read_slots,
    set_untrained,
    trained,
    write_slots,
)
from lockstep.backends.pytorch.adoption.state import (
    BeforeUpdate,
    Copies,
    Forward,
    Functions,
    Loss,
    Made,
    Make,
    MakeOptimizer,
    Source,
    State,
    check_optimizer_kind,
)

Grads = dict[str, torch.Tensor | None]
"""By parameter; None where the loss does not depend on it, which torch's optimizers pass over."""

SCHEDULER = "scheduler/"
"""Prefix of a scheduler's attributes in a snapshot."""


class TorchAdopted(AdoptedTrainer):
    """See `adopt`."""

    capabilities = AdoptedTrainer.capabilities | {"inject", "widen"}

    def __init__(self, source: Source, seed: int | None, name: str, *, wide: bool = False) -> None:
        self.name = name
        self._arithmetic: Callable[[], AbstractContextManager[None]] = (
            widening.widened if wide else nullcontext
        )
        self._wide = wide
        self._source, self._start = source, source.start
        self._seed = seed
        # Whether a batch's own memory may be given, as a bare loop does; not before one was observed to stay unchanged.
        self._shares: bool | None = None
        # Of which the last gradients were sparse, and of which there were none.
        self._sparse, self._unused = set[str](), set[str]()
        parameters = trained(self._start.module)
        self.dtype = common_dtype(name, {key: dtype(one) for key, one in parameters.items()})
        self._device = next(iter(parameters.values())).device
        for one in optimizers_in(self._start.optimizer):
            _check_optimizer(name, dataclasses.replace(self._start, optimizer=one))

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
        return self._again(self._seed + 1, self._wide)

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        state = self.init()
        narrowed = widening.Narrowed()
        with narrowed:
            self.step(state, batch)
        return narrowed.places

    def widened(self) -> TorchAdopted:
        return self._again(self._seed, True)

    def _again(self, seed: int | None, wide: bool) -> TorchAdopted:
        """The same code with this seed, computed in float64 or as it is."""
        return type(self)(self._source, seed, self.name, wide=wide)

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        state = self.init()
        x, y = self._as_tensors(batch)
        # Outside the run: what is drawn here leaves the user's generator as it was.
        with torch.random.fork_rng(), torch.no_grad(), draws.observed(state.module) as drawings:
            state.functions.loss(state.functions.forward(state.module, x), y)
        return tuple(drawings)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": str(torch.__version__),
            "threads": torch.get_num_threads(),
            **devices.describe(self._device),
        }

    def init(self) -> State:
        return self._source.fresh()

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        with self._arithmetic():
            loss = self._evaluate(state, batch)
            return self._update(state), comparable(loss, state.module)

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        with self._arithmetic():
            loss = self._evaluate(state, batch)
        grads = {name: one.grad for name, one in trained(state.module).items()}
        self._unused = {name for name, one in grads.items() if one is None}
        self._sparse |= {name for name, one in grads.items() if one is not None and one.is_sparse}
        state.optimizer.zero_grad(set_to_none=True)
        return state, comparable(loss, state.module), grads

    def apply(self, state: State, grads: Grads) -> State:
        for name, one in trained(state.module).items():
            one.grad = grads[name]
        with self._arithmetic():
            return self._update(state)

    def _evaluate(self, state: State, batch: Batch) -> torch.Tensor:
        """The loss of a batch; its gradients are in the parameters."""
        state.optimizer.zero_grad(set_to_none=True)
        with self._seeded(state.step):
            loss = self._loss_of(state, batch)
            loss.backward()  # type: ignore[no-untyped-call]
        state.evaluated = batch, loss.detach()
        return loss.detach()

    def _update(self, state: State) -> State:
        if state.functions.before_update is not None:
            state.functions.before_update(state.module)
        if takes_closure(type(state.optimizer)):
            step: Any = (
                state.optimizer.step
            )  # of a closure torch types the result as a float, and takes a tensor
            step(evaluating_again(state, partial(self._evaluate, state)))
        else:
            state.optimizer.step()
        if state.scheduler is not None:
            state.scheduler.step()
        state.step += 1
        return state

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        aside = self._aside(state)  # buffers move with a forward pass, and hooks are ours
        module, functions = aside.module, aside.functions
        observation = Observation(inject, self._tensor)
        observation.watch(module)
        x, y = self._as_tensors(batch)
        with self._arithmetic(), self._seeded(state.step), draws.replaced(self.name, batch.masks):
            output = functions.forward(module, x)
            if isinstance(output, torch.Tensor):
                output = observation.passed("output", output)
            loss = functions.loss(output, y)
            self.coarsest = coarsest(observation.outputs.values())
            stages = {f"forward/{name}": array(value) for name, value in observation.outputs.items()}
            stages["loss"] = array(comparable(loss, module))
            if loss.requires_grad and not {"cotangent", "gradient"}.isdisjoint(wanted):
                loss.backward()  # type: ignore[no-untyped-call]
                stages |= self._backward(module, observation)
        return select(stages, wanted)

    def _aside(self, state: State) -> State:
        aside = self._source.aside(state)
        return aside if isinstance(self._source, Copies) else self.write(aside, self.read(state))

    def _backward(self, module: nn.Module, observation: Observation) -> dict[str, Array]:
        """The stages of the backward pass, in its order."""
        cotangents = {f"cotangent/{name}": array(value) for name, value in observation.cotangents.items()}
        grads = {name: one.grad for name, one in trained(module).items()}
        return {**cotangents, **{f"gradient/{name}": value for name, value in self.read_grads(grads).items()}}

    def predict(self, state: State, x: Array) -> Array:
        aside = self._aside(state)
        with self._arithmetic(), torch.no_grad():
            return array(aside.functions.forward(aside.module.eval(), mapped(self._tensor, x)))

    def read(self, state: State) -> Snapshot:
        return Snapshot(
            {name: array(one) for name, one in trained(state.module).items()},
            read_slots(state.module, state.optimizer),
            state.step,
            buffers(state.module),
            extra={**counts(state.module), **state.attributes().moved(state.beginning)},
        )

    def write(self, state: State, snapshot: Snapshot) -> State:
        """The state that continues from `snapshot`; a scheduler of which that says nothing is stepped up to its step."""
        check_names(self.name, snapshot.parameters, trained(state.module))
        attributes = {name: value for name, value in snapshot.extra.items() if ":" in name}
        stepped = any(name.startswith(SCHEDULER) for name in attributes)
        if snapshot.step != state.step and state.scheduler is not None and not stepped:
            state = self._wound(state, snapshot.step)
            attributes |= state.attributes().moved(state.beginning)
        parameters = trained(state.module)
        begins = state.step == snapshot.step == 0
        copies = copies_of_parameters(state.module, state.optimizer) if begins else []
        with torch.no_grad():
            for name, value in snapshot.parameters.items():
                parameters[name].copy_(self._tensor(value))
            for name, value in {**snapshot.buffers, **snapshot.counts}.items():
                set_untrained(state.module, name, self._tensor(value))
        state.step = snapshot.step
        write_slots(state.module, state.optimizer, snapshot.optimizer, self._device)
        state.attributes().set(attributes, state.beginning, self._device)
        with torch.no_grad():
            for stored, parameter in copies:  # slow weights, made with the optimizer
                stored.copy_(parameter)
        return state

    def _wound(self, state: State, step: int) -> State:
        """The state with the scheduler, and the rates that it sets, as they are before `step`."""
        fresh = self.init()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is stepped without its optimizer on purpose
            for _ in range(step):
                fresh.scheduler.step()
        fresh.module.load_state_dict(state.module.state_dict(), strict=False)
        return fresh

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

    def _loss_of(self, state: State, batch: Batch) -> torch.Tensor:
        x, y = self._as_tensors(batch, copied=not self._shares)
        with draws.replaced(self.name, batch.masks):
            loss = state.functions.loss(state.functions.forward(state.module, x), y)
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
    module: nn.Module | Make,
    loss: Loss,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    *,
    scheduler: Any = None,
    forward: Forward | None = None,
    before_update: BeforeUpdate = None,
    seed: int | None = None,
    name: str = "torch",
) -> TorchAdopted:
    """Your own torch training code as a trainer. Nothing of it is changed: every run works on copies.

    A step is zero_grad, ``loss(module(x), y).backward()``, `before_update`, ``optimizer.step()``, ``scheduler.step()``. Where the
    optimizer's step takes a closure, it gets one: the loss and gradients of this batch, computed again where parameters have moved.

    Args:
        module: in the mode it is to be trained in; its parameters float64 or float32, on their device. Or a function without
            arguments that makes (module, optimizer) or (module, optimizer, scheduler) anew, where a copy of yours is refused.
        loss: (output, y) -> a scalar tensor.
        optimizer: made with this module's parameters; or what makes it, ``lambda p: torch.optim.SGD(p, lr=0.1)``, which is
            called for each copy of the module.
        scheduler: made with this optimizer; stepped once after every update.
        forward: (module, x) -> output; by default ``module(x)``, with a tuple as arguments and a dict by name.
        before_update: called with the module between the backward pass and the update, to clip gradients say.
        seed: what torch's generator starts every step from, with the step's number; None leaves it alone, and code that
            draws from it is refused.
        name: what reports call it.

    Raises:
        AdoptionError: the optimizer holds other parameters, or the dtypes are not one.
    """
    check_kind(name, "the loss", loss, callable(loss), "give a function (output, y) -> a scalar tensor")
    functions = Functions(loss, forward or called, before_update)
    if not isinstance(module, nn.Module):
        alone = callable(module) and not isinstance(module, type) and optimizer is None and scheduler is None
        fix = (
            "give a torch.nn.Module, or, without an optimizer and a scheduler, a function that makes them all"
        )
        check_kind(name, "the module", module, alone, fix)
        return TorchAdopted(Made(name, module, functions), seed, name)
    make = None if isinstance(optimizer, torch.optim.Optimizer) or not callable(optimizer) else optimizer
    built: Any = optimizer
    if make is not None:
        with failing(
            f"{name}: what makes its optimizer failed", "give a function of parameters, or the optimizer"
        ):
            built = make(module.parameters())
    check_optimizer_kind(name, built)
    return TorchAdopted(Copies(name, State(module, built, scheduler, functions), make), seed, name)


def _check_optimizer(name: str, start: State) -> None:
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
