"""A step of Keras objects, on whichever framework they run: all that they move is in their variables."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, cast

import numpy as np

from lockstep import backends
from lockstep.backends.adoption import InitialisingBackend, check_names, common_dtype, mapped
from lockstep.backends.problem import Array, Batch
from lockstep.backends.protocol import Scalar, Snapshot
from lockstep.backends.steps import Call, GivenStep, UndividedTrainer, loss_of

KINDS = ("parameters", "optimizer", "buffers", "extra")

CARRIED = ":variable"
"""Ends the name of what is carried and never compared: rates, counts, seeds."""


class KerasState(NamedTuple):
    """The numbers of all variables, by kind and name, and the number of the next step."""

    arrays: Mapping[tuple[str, str], Array]
    step: int


class KerasStep(UndividedTrainer):
    """See `lockstep.adopt_step`. A step is trained by the user's own objects, which are then as they were before.

    Args:
        given: the step and its state.
        models, optimizers: those that the state holds, by name.
    """

    def __init__(self, given: GivenStep, models: Mapping[str, Any], optimizers: Mapping[str, Any]) -> None:
        self.name, self._given, self._models = given.name, given, models
        self._held = models, optimizers
        self._call = Call(given.name, given.step, given.state)
        trained = _trained(models)
        _build(optimizers, trained)
        self._variables = {**_of_models(models), **_of_optimizers(optimizers, trained)}
        dtypes = {name: str(one.dtype) for (kind, name), one in self._variables.items() if kind == KINDS[0]}
        self.dtype = common_dtype(given.name, dtypes)
        self._start = self._values()

    @property
    def generator(self) -> str:
        seed = self._given.seed
        return "" if seed is None else f"{sys.modules['keras'].backend.backend()}, seed {seed}"

    def redrawn(self) -> KerasStep | None:
        if self._given.seed is None:
            return None
        return KerasStep(dataclasses.replace(self._given, seed=self._given.seed + 1), *self._held)

    def environment(self) -> Mapping[str, str | int | bool]:
        keras = sys.modules["keras"]
        framework = backends.load(keras.backend.backend()).environment()
        return {**framework, "keras": keras.__version__}

    def init(self) -> KerasState:
        return KerasState(self._start, 0)

    def step(self, state: KerasState, batch: Batch) -> tuple[KerasState, Scalar]:
        keras = sys.modules["keras"]
        x, y = (mapped(keras.ops.convert_to_tensor, one) for one in (batch.x, batch.y))
        self._assign(state.arrays)
        for one in self._models.values():
            if hasattr(one, "reset_metrics"):  # the loss of this batch alone, and not a mean of all
                one.reset_metrics()
        try:
            with self._seeded(state.step):
                result = self._given.step(*self._call.arguments(self._given.state, x, y))
            loss = keras.ops.convert_to_numpy(loss_of(self.name, self._given.step, result, self.dtype))
            return KerasState(self._values(), state.step + 1), loss
        finally:
            self._assign(self._start)

    def read(self, state: KerasState) -> Snapshot:
        kinds: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
        for (kind, name), value in sorted(state.arrays.items()):
            kinds[kind][name] = value.copy()
        return Snapshot(step=state.step, **kinds)

    def write(self, state: KerasState, snapshot: Snapshot) -> KerasState:
        check_names(self.name, snapshot.parameters, [name for kind, name in state.arrays if kind == KINDS[0]])
        given: dict[tuple[str, str], Array] = {
            (kind, name): value for kind in KINDS for name, value in getattr(snapshot, kind).items()
        }
        arrays = {
            place: given[place].astype(value.dtype, copy=True) if place in given else value
            for place, value in state.arrays.items()
        }
        return KerasState(arrays, snapshot.step)

    def _seeded(self, step: int) -> AbstractContextManager[object]:
        """With the numbers of this step's own seed where there is one: on torch Keras draws from its global generator."""
        if self._given.seed is None:
            return nullcontext()
        framework = cast("InitialisingBackend", backends.load(sys.modules["keras"].backend.backend()))
        return framework.seeded(self._given.seed + 1_000_003 * step)

    def _values(self) -> dict[tuple[str, str], Array]:
        convert = sys.modules["keras"].ops.convert_to_numpy
        return {place: np.array(convert(one.value)) for place, one in self._variables.items()}

    def _assign(self, arrays: Mapping[tuple[str, str], Array]) -> None:
        for place, one in self._variables.items():
            one.assign(arrays[place])


def adopt_step(given: GivenStep) -> KerasStep | None:
    """The trainer of a step, where its state holds Keras models or layers; else None."""
    if "keras" not in sys.modules:
        return None
    models = dict(_held(given.state, "Layer"))
    if not models:
        return None
    optimizers = dict(_held(given.state, "Optimizer"))
    return KerasStep(given, models, optimizers)


def _held(state: Any, kind: str, name: str = "") -> Iterator[tuple[str, Any]]:
    """The models or optimizers of a state: in tuples, lists and dicts, and the optimizers that a model was compiled with or has as attributes."""
    keras = sys.modules["keras"]
    cls = keras.Layer if kind == "Layer" else keras.optimizers.Optimizer
    if isinstance(state, cls):
        yield name, state
    elif isinstance(state, Mapping):
        for key, one in state.items():
            yield from _held(one, kind, f"{name}/{key}" if name else str(key))
    elif isinstance(state, (list, tuple)):
        for at, one in enumerate(state):
            yield from _held(one, kind, f"{name}/{at}" if name else str(at))
    elif isinstance(state, keras.Layer):
        found = {id(one): (key, one) for key, one in vars(state).items() if isinstance(one, cls)}
        for key, one in found.values():
            yield f"{name}/{key}" if name else key, one


def _trained(models: Mapping[str, Any]) -> dict[str, Any]:
    return {_path(one): one for model in models.values() for one in model.trainable_variables}


def _build(optimizers: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Let the only optimizer make its variables now: it would make them in its first step."""
    if len(optimizers) == 1:
        for one in optimizers.values():
            if not one.built:
                one.build(list(trained.values()))


def _of_models(models: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    variables = {}
    for model in models.values():
        for one in model.variables:
            if one.trainable:
                variables["parameters", _path(one)] = one
            elif np.issubdtype(one.dtype, np.floating):
                variables["buffers", _path(one)] = one
            else:
                variables["extra", _path(one) + CARRIED] = one
    return variables


def _of_optimizers(optimizers: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """``momentum/dense/kernel`` of the slots; what is of no parameter, a rate or a count, is each side's own."""
    slots = {path.replace("/", "_"): path for path in trained}
    variables = {}
    for name, optimizer in optimizers.items():
        prefix = f"{name}/" if len(optimizers) > 1 else ""
        for one in optimizer.variables:
            own = max((slot for slot in slots if one.name.startswith(f"{slot}_")), key=len, default=None)
            if own is None:
                variables["extra", f"optimizer/{prefix}{one.name}{CARRIED}"] = one
            else:
                slot = one.name.removeprefix(f"{own}_")
                variables["optimizer", f"{prefix}{slot}/{slots[own]}"] = one
    return variables


def _path(variable: Any) -> str:
    path: str = variable.path
    return path
