"""The PyTorch backend: a problem as torch.nn modules and a torch.optim optimizer, in eager mode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.problem import UNCLIPPED, Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import (
    NOTHING,
    Recording,
    Scalar,
    Snapshot,
    Trace,
    Unsupported,
    select,
    unsupported,
)
from lockstep.backends.pytorch import devices
from lockstep.backends.pytorch.adoption.initial import fans, initial, seeded
from lockstep.backends.pytorch.adoption.optimizer import optimizer_side
from lockstep.backends.pytorch.adoption.step import TorchStep, adopt_step
from lockstep.backends.pytorch.arrays import as_array, canonical
from lockstep.backends.pytorch.averages import AVERAGES
from lockstep.backends.pytorch.clips import CLIPS
from lockstep.backends.pytorch.history import History
from lockstep.backends.pytorch.layers import FUNCTIONS, JOINS, Leaf
from lockstep.backends.pytorch.losses import LOSSES
from lockstep.backends.pytorch.model import build, paths, set_masks
from lockstep.backends.pytorch.observed import tapped
from lockstep.backends.pytorch.optimizers import OPTIMIZERS
from lockstep.backends.pytorch.penalties import PENALTIES, adding
from lockstep.backends.pytorch.schedules import SCHEDULES, Scheduler, scheduler_at
from lockstep.backends.steps import GivenStep

TABLES = {
    "layer": FUNCTIONS.keys() | JOINS.keys(),
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "clip": CLIPS,
    "penalty": PENALTIES,
    "average": AVERAGES,
}


@dataclass
class State:
    """Live torch objects, changed in place by every step; between updates the gradients accumulate in .grad."""

    module: nn.Sequential
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler | None
    forward: Callable[[torch.Tensor], torch.Tensor]  # the module, or what was made of it
    step: int = 0
    average: AveragedModel | None = None


Grads = dict[str, torch.Tensor]
Masks = Mapping[str, torch.Tensor]


class TorchTrainer:
    """A problem bound to torch.nn and torch.optim."""

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state"})

    def __init__(self, problem: Problem, device: str = "cpu") -> None:
        self._problem, self._device = problem, torch.device(device)
        self._dtype = {"float64": torch.float64, "float32": torch.float32}[problem.dtype]
        self._loss = LOSSES[problem.loss.name](problem.loss.args)
        self._clip = CLIPS[problem.clip.name](problem.clip.args)
        self._average = AVERAGES[problem.average.name](problem.average.args)
        self._penalise = adding(problem) if problem.penalties else None
        # Asked at every step: to compare two members is a call of its own.
        self._every, self._clips = problem.accumulation, problem.clip != UNCLIPPED
        self._row = OPTIMIZERS[problem.optimizer.name]
        self._start = problem.optimizer.initial_state(problem.initial_parameters())
        self._paths = paths(problem.layers)

    def given(self) -> Arrays:
        batches = self._problem.batches()
        initial = self.read(self.init()).parameters
        return {
            "data/x": as_array(self._tensor(batches.x)),
            "data/y": as_array(self._tensor(batches.y)),
            **{f"initial/{name}": value for name, value in initial.items()},
        }

    def init(self) -> State:
        problem = self._problem
        return self._state(
            Snapshot(problem.initial_parameters(), self._start, buffers=problem.initial_buffers())
        )

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        loss = self._train(state, *self._tensors(batch))
        return state, loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        loss = self._loss_of(state, *self._tensors(batch))
        names, parameters, _ = zip(*self._named(state), strict=True)
        # autograd.grad leaves .grad alone, where other batches' gradients may have accumulated.
        grads = torch.autograd.grad(loss, parameters, materialize_grads=True)
        return state, loss.detach(), {name: grad.clone() for name, grad in zip(names, grads, strict=True)}

    def apply(self, state: State, grads: Grads) -> State:
        for name, parameter, _ in self._named(state):
            part = grads[name] / self._every
            parameter.grad = part if parameter.grad is None else parameter.grad + part
        return self._update(state)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        x, y, masks = self._tensors(batch)
        x.requires_grad_()  # layers before the first parameter have cotangents too
        outputs: dict[str, torch.Tensor] = {}
        taps: dict[str, torch.Tensor] = {}
        others = {name: self._tensor(value) for name, value in inject.items()}
        saved = self._read_buffers(state)
        set_masks(state.module, self._paths.masks, masks)
        value = x
        for layer, module in zip(self._problem.layers, state.module, strict=True):
            outputs[layer.name] = module(value)
            taps[layer.name], value = tapped(layer.name, outputs[layer.name], others)
        loss = self._penalised(self._loss(value, y), state)
        named = list(self._named(state))
        # autograd.grad returns the derivatives without touching the .grad that training uses.
        inputs = [*taps.values(), *(parameter for _, parameter, _ in named)]
        derivatives = torch.autograd.grad(loss, inputs)
        self._write_buffers(state, saved)  # the forward pass of training moved them
        cotangents = dict(zip(taps, derivatives, strict=False))
        grads = zip(named, derivatives[len(outputs) :], strict=True)
        stages = {
            **batch.stages(),
            **{f"forward/{name}": as_array(output) for name, output in outputs.items()},
            "loss": as_array(loss),
            **{f"cotangent/{name}": as_array(cotangents[name]) for name in reversed(outputs)},
            **{f"gradient/{name}": canonical(grad, leaf) for (name, _, leaf), grad in grads},
        }
        return select(stages, wanted)

    def clipped(self, state: State, grads: Grads) -> Arrays:
        if not self._clips or (state.step + 1) % self._every:
            return {}
        copies = {}
        for name, parameter, _ in self._named(state):
            copies[name] = nn.Parameter(torch.empty_like(parameter))
            part = grads[name] / self._every
            copies[name].grad = part if parameter.grad is None else parameter.grad + part
        self._clip(copies.values())
        return self.read_grads({name: _gradient(copy) for name, copy in copies.items()})

    def predict(self, state: State, x: Array) -> Array:
        state.module.eval()
        with torch.no_grad():
            output = state.forward(self._tensor(x))
        state.module.train()
        return as_array(output)

    def read(self, state: State) -> Snapshot:
        return Snapshot(
            {name: canonical(parameter, leaf) for name, parameter, leaf in self._named(state)},
            self._slots(state),
            state.step,
            self._read_buffers(state),
            accumulator={
                name: canonical(_gradient(parameter), leaf)
                for name, parameter, leaf in self._named(state)
                if self._every > 1
            },
            average={name: canonical(value, leaf) for name, value, leaf in self._averaged(state)},
        )

    def write(self, state: State, snapshot: Snapshot) -> State:
        written = self._state(snapshot)
        for name, parameter, leaf in self._named(written):
            if snapshot.accumulator:
                parameter.grad = self._torch_layout(snapshot.accumulator[name], leaf)
        with torch.no_grad():
            for name, value, leaf in self._averaged(written):
                value.copy_(self._torch_layout(snapshot.average[name], leaf))
        return written

    def read_grads(self, grads: Grads) -> Arrays:
        return {name: canonical(grad, self._paths.parameters[name]) for name, grad in sorted(grads.items())}

    def write_grads(self, arrays: Arrays) -> Grads:
        return {
            name: self._torch_layout(value, self._paths.parameters[name]) for name, value in arrays.items()
        }

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        x, y = self._tensor(batches.x), self._tensor(batches.y)
        losses = []
        history = History(self._named(state) if recording.parameters else (), batches.epochs + 1)
        history.keep()
        for epoch in range(batches.epochs):
            losses += [self._train(state, *dealt) for dealt in _dealt(batches, epoch, x, y)]
            history.keep()
        return Trace(as_array(torch.stack(losses)), self.read(state), history.read() or None)

    def _train(self, state: State, x: torch.Tensor, y: torch.Tensor, masks: Masks) -> torch.Tensor:
        """One step as torch's users write it; the loss stays on its device."""
        loss = self._loss_of(state, x, y, masks)
        (loss / self._every if self._every > 1 else loss).backward()  # type: ignore[no-untyped-call]
        self._update(state)
        return loss.detach()

    def _loss_of(self, state: State, x: torch.Tensor, y: torch.Tensor, masks: Masks) -> torch.Tensor:
        if masks:
            set_masks(state.module, self._paths.masks, masks)
        return self._penalised(self._loss(state.forward(x), y), state)

    def _penalised(self, loss: torch.Tensor, state: State) -> torch.Tensor:
        if self._penalise is None:
            return loss
        return self._penalise(loss, {name: parameter for name, parameter, _ in self._named(state)})

    def _update(self, state: State) -> State:
        """The update that is due after `accumulation` batches; until then only the step is counted."""
        state.step += 1
        if state.step % self._every:
            return state
        if self._clips:
            self._clip(state.module.parameters())
        state.optimizer.step()
        if state.scheduler is not None:
            state.scheduler.step()
        if state.average is not None:
            state.average.update_parameters(state.module)
        state.optimizer.zero_grad(set_to_none=True)
        return state

    def _state(self, snapshot: Snapshot) -> State:
        with torch.random.fork_rng(devices=[]):  # torch's initialisers draw; the user's random state stays
            module = build(self._problem.layers).to(self._device, self._dtype)
        optimizer = self._row.build(module.parameters(), self._problem.optimizer.args)
        schedule, updates = self._problem.schedule, snapshot.step // self._every
        scheduler = scheduler_at(optimizer, schedule.name, schedule.args, updates)
        state = State(module, optimizer, scheduler, module, snapshot.step)
        with torch.no_grad():
            for name, parameter, leaf in self._named(state):
                parameter.copy_(self._torch_layout(snapshot.parameters[name], leaf))
        self._write_buffers(state, snapshot.buffers)
        self._load(state, snapshot, updates)
        state.average = self._average(module, updates)
        return state

    def _load(self, state: State, snapshot: Snapshot, updates: int) -> None:
        """The optimizer's state from a snapshot, unless it is one that torch must make by itself."""
        args = self._problem.optimizer.args
        if not updates and self._row.starts_itself(args):
            return
        for _, parameter, _ in self._named(state):
            scalars = self._row.scalars(args, updates, self._dtype)
            # A count stands on the CPU, as torch keeps it, whatever the device: no step waits to read it.
            state.optimizer.state[parameter] = {"step": torch.tensor(float(updates)), **scalars}
        for key, parameter, leaf, theirs in self._places(state):
            state.optimizer.state[parameter][theirs] = self._torch_layout(snapshot.optimizer[key], leaf)

    def _read_buffers(self, state: State) -> Arrays:
        return {
            name: canonical(state.module.get_buffer(leaf.name), leaf)
            for name, leaf in self._paths.buffers.items()
        }

    def _write_buffers(self, state: State, buffers: Arrays) -> None:
        for name, leaf in self._paths.buffers.items():
            state.module.get_buffer(leaf.name).copy_(self._torch_layout(buffers[name], leaf))

    def _slots(self, state: State) -> Arrays:
        """The optimizer's state; before the first step, when torch may have none yet, the registry's initial one."""
        slots = {}
        for key, parameter, leaf, theirs in self._places(state):
            value = state.optimizer.state.get(parameter, {}).get(theirs)
            slots[key] = self._start[key].copy() if value is None else canonical(value, leaf)
        return slots

    def _places(self, state: State) -> Iterable[tuple[str, nn.Parameter, Leaf, str]]:
        """``<slot>/<parameter>``, the parameter with its leaf, and torch's key for the slot."""
        named = {name: (parameter, leaf) for name, parameter, leaf in self._named(state)}
        for key in self._start:
            slot, _, name = key.partition("/")
            parameter, leaf = named[name]
            yield key, parameter, leaf, self._row.key(slot, leaf.axes is not None)

    def _named(self, state: State) -> Iterable[tuple[str, nn.Parameter, Leaf]]:
        for name, leaf in self._paths.parameters.items():
            yield name, state.module.get_parameter(leaf.name), leaf

    def _averaged(self, state: State) -> Iterable[tuple[str, nn.Parameter, Leaf]]:
        """The averaged parameters; none where the problem keeps no average."""
        if state.average is not None:
            module: Any = state.average.module
            yield from self._named(replace(state, module=module))

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Masks]:
        masks = {name: self._tensor(mask) for name, mask in batch.masks.items()}
        return self._tensor(batch.x), self._tensor(batch.y), masks

    def _tensor(self, array: Array) -> torch.Tensor:
        """A copy on the trainer's device: from_numpy and as_tensor would alias the caller's array."""
        return torch.tensor(array, device=self._device)

    def _torch_layout(self, array: Array, leaf: Leaf) -> torch.Tensor:
        axes = leaf.axes
        return self._tensor(array if axes is None else np.ascontiguousarray(array.transpose(axes)))


def _dealt(
    batches: Batches, epoch: int, x: torch.Tensor, y: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, Masks]]:
    """The batches of an epoch, and their masks; all rows are the data themselves, which copies nothing."""
    masks = {layer: torch.from_numpy(mask).to(x.device) for layer, mask in batches.masks(epoch).items()}
    size = batches.batching.size
    if size is None:
        yield x, y, masks
        return
    order = torch.from_numpy(batches.order(epoch)).to(x.device)
    for start in range(0, len(order), size):
        part = slice(start, start + size)
        rows = order[part]
        yield x[rows], y[rows], {layer: mask[part] for layer, mask in masks.items()}


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class TorchBackend:
    """torch.nn and torch.optim, eager."""

    name = "torch"
    kind: ClassVar[type[TorchTrainer]] = TorchTrainer
    device: ClassVar[str] = "cpu"

    def __init__(self) -> None:
        devices.require(self.name, self.device)

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, TABLES)

    def trainer(self, problem: Problem) -> TorchTrainer:
        return self.kind(problem, self.device)

    def optimizer_side(self, given: object) -> OptimizerSide | None:
        return optimizer_side(given)

    def adopt_step(self, given: GivenStep) -> TorchStep | None:
        return adopt_step(given)

    def initial(self, given: object) -> Snapshot | None:
        return initial(given)

    def seeded(self, seed: int) -> AbstractContextManager[object]:
        return seeded(seed)

    def fans(self, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        return fans(shape)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": str(torch.__version__),
            "threads": torch.get_num_threads(),
            **devices.describe(torch.device(self.device)),
        }
