"""The PyTorch backend: a problem as torch.nn modules and a torch.optim optimizer, in eager mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from torch import nn

from backends.problem import Array, Arrays, Batch, Batches, Problem
from backends.protocol import Recording, Scalar, Snapshot, Trace, Unsupported, select, unsupported
from backends.pytorch.clips import CLIPS
from backends.pytorch.layers import FUNCTIONS, Leaf
from backends.pytorch.losses import LOSSES
from backends.pytorch.optimizers import OPTIMIZERS
from backends.pytorch.schedules import SCHEDULES, Scheduler, scheduler_at


@dataclass
class State:
    """Live torch objects, changed in place by every step."""

    module: nn.Sequential
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler | None
    step: int = 0


Grads = dict[str, torch.Tensor]


class TorchTrainer:
    """A problem bound to torch.nn and torch.optim."""

    capabilities = frozenset({"fit", "stages", "optimizer_state"})

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._dtype = {"float64": torch.float64, "float32": torch.float32}[problem.dtype]
        self._loss = LOSSES[problem.loss.name](problem.loss.args)
        self._clip = CLIPS[problem.clip.name](problem.clip.args)
        self._row = OPTIMIZERS[problem.optimizer.name]
        self._slots = {slot: self._row.state[slot] for slot in problem.optimizer.state}
        self._leaves = {
            layer.leaf(parameter): (index, FUNCTIONS[layer.op].leaves[parameter])
            for index, layer in enumerate(problem.layers)
            for parameter in layer.parameters
        }

    def given(self) -> Arrays:
        batches = self._problem.batches()
        initial = self.read(self.init()).parameters
        return {
            "data/x": _array(_tensor(batches.x)),
            "data/y": _array(_tensor(batches.y)),
            **{f"initial/{name}": value for name, value in initial.items()},
        }

    def init(self) -> State:
        return self._state(self._problem.initial_parameters())

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        loss = self._train(state, _tensor(batch.x), _tensor(batch.y))
        return state, loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Grads]:
        loss = self._backward(state, _tensor(batch.x), _tensor(batch.y))
        grads = {name: _gradient(parameter).clone() for name, parameter, _ in self._named(state)}
        return state, loss, grads

    def apply(self, state: State, grads: Grads) -> State:
        for name, parameter, _ in self._named(state):
            parameter.grad = grads[name].clone()
        return self._update(state)

    def observe(self, state: State, batch: Batch, wanted: Collection[str]) -> Arrays:
        # Layers before the first parameter have cotangents too.
        x, y = _tensor(batch.x).requires_grad_(), _tensor(batch.y)
        outputs: dict[str, torch.Tensor] = {}
        value = x
        for layer, module in zip(self._problem.layers, state.module, strict=True):
            value = outputs[layer.name] = module(value)
        loss = self._loss(value, y)
        named = list(self._named(state))
        # autograd.grad returns the derivatives without touching the .grad that training uses.
        inputs = [*outputs.values(), *(parameter for _, parameter, _ in named)]
        derivatives = torch.autograd.grad(loss, inputs)
        cotangents = dict(zip(outputs, derivatives, strict=False))
        grads = zip(named, derivatives[len(outputs) :], strict=True)
        stages = {
            "batch/x": _array(x),
            "batch/y": _array(y),
            **{f"forward/{name}": _array(output) for name, output in outputs.items()},
            "loss": _array(loss),
            **{f"cotangent/{name}": _array(cotangents[name]) for name in reversed(outputs)},
            **{f"gradient/{name}": _canonical(grad, leaf) for (name, _, leaf), grad in grads},
        }
        return select(stages, wanted)

    def read(self, state: State) -> Snapshot:
        parameters = {name: _canonical(parameter, leaf) for name, parameter, leaf in self._named(state)}
        return Snapshot(parameters, self._kept(state), state.step)

    def write(self, state: State, snapshot: Snapshot) -> State:
        written = self._state(snapshot.parameters, snapshot.step)
        for name, parameter, leaf in self._named(written):
            if snapshot.step:  # before the first step torch makes its own
                slots = {
                    key: _torch_layout(snapshot.optimizer[f"{slot}/{name}"], leaf)
                    for slot, key in self._slots.items()
                }
                written.optimizer.state[parameter] = {"step": torch.tensor(float(snapshot.step)), **slots}
        return written

    def read_grads(self, grads: Grads) -> Arrays:
        return {name: _canonical(grad, self._leaves[name][1]) for name, grad in sorted(grads.items())}

    def write_grads(self, arrays: Arrays) -> Grads:
        return {name: _torch_layout(value, self._leaves[name][1]) for name, value in arrays.items()}

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        x, y = _tensor(batches.x), _tensor(batches.y)
        losses = torch.empty(len(batches), dtype=self._dtype)
        history = [self.read(state).parameters] if recording.parameters else []
        step = 0
        for epoch in range(batches.epochs):
            for rows in _dealt(batches, epoch):
                losses[step] = self._train(state, x[rows], y[rows])
                step += 1
            if recording.parameters:
                history.append(self.read(state).parameters)
        recorded = {name: np.stack([past[name] for past in history]) for name in self._leaves if history}
        return Trace(_array(losses), self.read(state), recorded or None)

    def _train(self, state: State, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One step as torch's users write it; the loss stays on its device."""
        loss = self._backward(state, x, y)
        self._update(state)
        return loss

    def _backward(self, state: State, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        state.optimizer.zero_grad(set_to_none=True)
        loss: torch.Tensor = self._loss(state.module(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _update(self, state: State) -> State:
        self._clip(state.module.parameters())
        state.optimizer.step()
        if state.scheduler is not None:
            state.scheduler.step()
        state.step += 1
        return state

    def _state(self, parameters: Arrays, step: int = 0) -> State:
        with torch.random.fork_rng(devices=[]):  # torch's initialisers draw; the user's random state stays
            modules = [FUNCTIONS[item.op].build(item.input_shape, item.args) for item in self._problem.layers]
        module = nn.Sequential(*modules).to(self._dtype)
        optimizer = self._row.build(module.parameters(), self._problem.optimizer.args)
        schedule = self._problem.schedule
        state = State(module, optimizer, scheduler_at(optimizer, schedule.name, schedule.args, step), step)
        with torch.no_grad():
            for name, parameter, leaf in self._named(state):
                parameter.copy_(_torch_layout(parameters[name], leaf))
        return state

    def _kept(self, state: State) -> Arrays:
        """The optimizer's state; before the first step, when torch has none yet, the registry's initial one."""
        start = {"sum": float(self._problem.optimizer.args.get("initial_accumulator", 0.0))}
        kept = {}
        for name, parameter, leaf in self._named(state):
            slots = state.optimizer.state.get(parameter, {})
            for slot, key in self._slots.items():
                value = slots.get(key)
                if value is None:
                    value = torch.full_like(parameter, start.get(slot, 0.0))
                kept[f"{slot}/{name}"] = _canonical(value, leaf)
        return dict(sorted(kept.items()))

    def _named(self, state: State) -> Iterable[tuple[str, nn.Parameter, Leaf]]:
        for name, (index, leaf) in sorted(self._leaves.items()):
            yield name, state.module[index].get_parameter(leaf.name), leaf


def _dealt(batches: Batches, epoch: int) -> Iterable[torch.Tensor | EllipsisType]:
    """What to index the data with, step by step: `...` for all rows, which copies nothing."""
    if batches.batching.size is None:
        return (...,)
    order = batches.order(epoch)
    return [
        torch.from_numpy(rows)
        for rows in np.split(order, range(batches.batching.size, len(order), batches.batching.size))
    ]


def _tensor(array: Array) -> torch.Tensor:
    """A copy: from_numpy and as_tensor would alias the caller's array."""
    return torch.tensor(array)


def _array(tensor: torch.Tensor) -> Array:
    """A copy: .numpy() would alias the live tensor."""
    return tensor.detach().cpu().numpy().copy()


def _canonical(tensor: torch.Tensor, leaf: Leaf) -> Array:
    return np.ascontiguousarray(_array(tensor).T) if leaf.transposed else _array(tensor)


def _torch_layout(array: Array, leaf: Leaf) -> torch.Tensor:
    return _tensor(np.ascontiguousarray(array.T) if leaf.transposed else array)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class TorchBackend:
    """torch.nn and torch.optim, eager."""

    name = "torch"

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, FUNCTIONS, LOSSES, OPTIMIZERS, SCHEDULES, CLIPS)

    def trainer(self, problem: Problem) -> TorchTrainer:
        return TorchTrainer(problem)

    def environment(self) -> Mapping[str, str | int | bool]:
        precision = torch.get_float32_matmul_precision()
        return {
            "version": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "device": "cpu",
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "matmul_precision": precision,
            # 'medium' changes the bits of a CPU's float32 products, and 'high' those of a GPU's.
            "reduced_precision": precision != "highest",
        }
