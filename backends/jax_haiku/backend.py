"""The JAX backend: a problem as Haiku modules and an Optax transform, jitted, and scanned over epochs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar, NamedTuple, cast

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.jax_haiku import devices
from lockstep.backends.jax_haiku.accumulation import accumulating
from lockstep.backends.jax_haiku.adoption.initial import fans, initial
from lockstep.backends.jax_haiku.adoption.optimizer import optimizer_side
from lockstep.backends.jax_haiku.adoption.step import JaxStep, adopt_step
from lockstep.backends.jax_haiku.averages import AVERAGES
from lockstep.backends.jax_haiku.clips import CLIPS
from lockstep.backends.jax_haiku.layers import FUNCTIONS
from lockstep.backends.jax_haiku.losses import LOSSES
from lockstep.backends.jax_haiku.model import Place, buffer_places, forward, parameter_places
from lockstep.backends.jax_haiku.observed import tapping
from lockstep.backends.jax_haiku.optimizers import OPTIMIZERS
from lockstep.backends.jax_haiku.penalties import PENALTIES, adding
from lockstep.backends.jax_haiku.schedules import SCHEDULES, scheduled
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
from lockstep.backends.steps import GivenStep

Params = dict[str, dict[str, jax.Array]]
"""Haiku's own form of parameters and of state: module, leaf."""

TABLES = {
    "layer": FUNCTIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "clip": CLIPS,
    "penalty": PENALTIES,
    "average": AVERAGES,
}


class State(NamedTuple):
    params: Params
    optimizer: optax.OptState
    step: jax.Array
    buffers: Params
    average: Params


class Dealt(NamedTuple):
    """What one step sees, on the device."""

    x: jax.Array
    y: jax.Array
    masks: dict[str, jax.Array]


class JaxTrainer:
    """A problem bound to Haiku and Optax. States are donated: each method's input state is used up."""

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state"})

    def __init__(self, problem: Problem, device: jax.Device | None = None) -> None:
        """On `device`, or where JAX puts things by itself."""
        self._problem = problem
        self._device = device if device is not None and devices.elsewhere(device) else None
        self._x64 = problem.dtype == "float64"
        self._row = row = OPTIMIZERS[problem.optimizer.name]
        base = float(problem.optimizer.args["learning_rate"])
        rate = scheduled(base, problem.schedule.name, problem.schedule.args)
        self._clip = CLIPS[problem.clip.name](problem.clip.args)
        with self._precision():  # without it float64 accumulators would become float32
            self._optimizer = accumulating(
                optax.chain(self._clip, row.build(problem.optimizer.args, rate)),
                problem.accumulation,
                problem.dtype,
            )
        self._average = AVERAGES[problem.average.name](problem.average.args)
        self._penalise = adding(problem)
        self._initial_slots = problem.optimizer.initial_state(problem.initial_parameters())
        self._loss = LOSSES[problem.loss.name](problem.loss.args)
        self._places = parameter_places(problem.layers)
        self._buffers = buffer_places(problem.layers)
        self._model: hk.TransformedWithState = hk.without_apply_rng(
            hk.transform_with_state(functools.partial(forward, problem.layers))
        )
        self._gradients = jax.jit(self._loss_and_grads)
        self._apply = jax.jit(self._update, donate_argnums=0)
        self._step = jax.jit(self._one_step, donate_argnums=0)
        self._fit = jax.jit(self._scan, donate_argnums=0, static_argnames=("epochs", "size", "record"))
        self._observe = jax.jit(self._stages)
        self._predict = jax.jit(self._evaluate)

    def given(self) -> Arrays:
        with self._precision():
            batches = self._problem.batches()
            initial = self._canonical(jax.tree.map(_owned, self.init().params))
            return {
                "data/x": np.array(_owned(batches.x)),
                "data/y": np.array(_owned(batches.y)),
                **{f"initial/{name}": value for name, value in initial.items()},
            }

    def init(self) -> State:
        with self._precision():
            params = self._haiku(self._problem.initial_parameters())
            buffers = _placed(self._buffers, self._problem.initial_buffers())
            optimizer, average = self._optimizer.init(params), self._average.init(params)
            return State(params, optimizer, _entering(np.asarray(0)), buffers, average)

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        with self._precision():
            stepped: tuple[State, Scalar] = self._step(state, _dealt(batch))
            return stepped

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Params]:
        with self._precision():
            loss, buffers, grads = self._gradients(state.params, state.buffers, _dealt(batch))
            return state._replace(buffers=buffers), loss, grads

    def apply(self, state: State, grads: Params) -> State:
        with self._precision():
            applied: State = self._apply(state, grads)
            return applied

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        with self._precision():
            others = {name: _owned(value) for name, value in inject.items()}
            loss, outputs, cotangents, grads = self._observe(
                state.params, state.buffers, _dealt(batch), others
            )
            stages = {
                **batch.stages(),
                **{f"forward/{layer.name}": outputs[layer.name] for layer in self._problem.layers},
                "loss": loss,
                **{f"cotangent/{layer.name}": cotangents[layer.name] for layer in self._problem.layers[::-1]},
                **{f"gradient/{name}": grad for name, grad in self._canonical(grads).items()},
            }
            return {name: np.array(value) for name, value in select(stages, wanted).items()}

    def clipped(self, state: State, grads: Params) -> Arrays:
        every = self._problem.accumulation
        if self._problem.clip == UNCLIPPED or (int(state.step) + 1) % every:
            return {}
        with self._precision():
            if every > 1:
                accumulated = _field(state.optimizer, "acc_grads")
                grads = jax.tree.map(lambda total, grad: total + grad / every, accumulated, grads)
            clipped, _ = self._clip.update(grads, self._clip.init(grads))
            return self._canonical(clipped)

    def predict(self, state: State, x: Array) -> Array:
        with self._precision():
            return np.array(self._predict(state.params, state.buffers, _owned(x)))

    def read(self, state: State) -> Snapshot:
        slots = {
            key: np.array(_field(state.optimizer, field)[module][leaf]).reshape(like.shape)
            for key, like in self._initial_slots.items()
            for field, module, leaf in [self._place(key)]
        }
        accumulator = _field(state.optimizer, "acc_grads") if self._problem.accumulation > 1 else {}
        return Snapshot(
            self._canonical(state.params),
            slots,
            int(np.asarray(state.step)),
            {name: np.array(value) for name, value in _named(self._buffers, state.buffers).items()},
            accumulator=self._canonical(accumulator),
            average=self._canonical(state.average),
        )

    def write(self, state: State, snapshot: Snapshot) -> State:
        with self._precision():
            params = self._haiku(snapshot.parameters)
            optimizer = self._optimizer.init(params)
            updates, batches = divmod(snapshot.step, self._problem.accumulation)
            fields: dict[str, Any] = {}
            for key in self._initial_slots:
                field, module, leaf = self._place(key)
                held = fields.setdefault(field, jax.tree.map(lambda leaf: leaf, _field(optimizer, field)))
                held[module][leaf] = _owned(snapshot.optimizer[key].reshape(held[module][leaf].shape))
            scalars = {"count": lambda args, step: jnp.asarray(step, jnp.int32), **self._row.scalars}
            for field, value in scalars.items():
                if optax.tree_utils.tree_get_all_with_path(optimizer, field):
                    fields[field] = value(self._problem.optimizer.args, updates)
            optimizer = optax.tree_utils.tree_set(optimizer, **fields) if fields else optimizer
            if self._problem.accumulation > 1:
                # In a call of its own: tree_set looks no further into what it sets.
                optimizer = optax.tree_utils.tree_set(
                    optimizer,
                    acc_grads=self._haiku(snapshot.accumulator),
                    mini_step=jnp.asarray(batches, jnp.int32),
                    gradient_step=jnp.asarray(updates, jnp.int32),
                )
            optimizer = jax.tree.map(jnp.copy, optimizer)  # a field that stands twice is donated twice
            buffers, average = _placed(self._buffers, snapshot.buffers), self._haiku(snapshot.average)
            return State(params, optimizer, _entering(np.asarray(snapshot.step)), buffers, average)

    def read_grads(self, grads: Params) -> Arrays:
        return self._canonical(grads)

    def write_grads(self, arrays: Arrays) -> Params:
        with self._precision():
            return self._haiku(arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        with self._precision():
            first = self._canonical(state.params) if recording.parameters else {}
            size = batches.batching.size
            # Row numbers of every epoch; None where all rows are one batch and nothing is gathered.
            epochs = range(batches.epochs)
            orders = None if size is None else np.stack([batches.order(one) for one in epochs])
            # The masks of all epochs at once: a scan takes what changes from step to step as one array.
            masks = [batches.masks(one) for one in epochs] if batches.dropped else [{}]
            state, (losses, later) = self._fit(
                state,
                batches.x,  # not donated, and nothing is left running when this returns: no copy is needed
                batches.y,
                orders,
                {layer: np.stack([one[layer] for one in masks]) for layer in masks[0]},
                epochs=batches.epochs,
                size=size,
                record=recording.parameters,
            )
            history = None
            if recording.parameters:
                rest = self._canonical(later)
                history = {name: np.concatenate([first[name][None], rest[name]]) for name in rest}
            return Trace(np.array(losses).ravel(), self.read(state), history)

    def _loss_and_grads(
        self, params: Params, buffers: Params, dealt: Dealt
    ) -> tuple[jax.Array, Params, Params]:
        """The loss, the buffers after the forward pass, the gradients."""

        def loss_of(params: Params) -> tuple[jax.Array, Params]:
            (prediction, _), moved = self._model.apply(params, buffers, dealt.x, dealt.masks, True)
            return self._penalise(self._loss(prediction, dealt.y), self._named(params)), moved

        (loss, moved), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        return loss, moved, grads

    def _evaluate(self, params: Params, buffers: Params, x: jax.Array) -> jax.Array:
        (prediction, _), _ = self._model.apply(params, buffers, x, {}, False)
        output: jax.Array = prediction
        return output

    def _update(self, state: State, grads: Params) -> State:
        updates, optimizer = self._optimizer.update(grads, state.optimizer, state.params)
        params, step = optax.apply_updates(state.params, updates), state.step + 1
        averaged = self._average.update(state.average, params, step // self._problem.accumulation)
        updated = step % self._problem.accumulation == 0
        average = jax.tree.map(lambda new, old: jnp.where(updated, new, old), averaged, state.average)
        return state._replace(params=params, optimizer=optimizer, step=step, average=average)

    def _one_step(self, state: State, dealt: Dealt) -> tuple[State, jax.Array]:
        loss, buffers, grads = self._loss_and_grads(state.params, state.buffers, dealt)
        return self._update(state._replace(buffers=buffers), grads), loss

    def _scan(
        self,
        state: State,
        x: jax.Array,
        y: jax.Array,
        orders: jax.Array | None,
        masks: dict[str, jax.Array],
        epochs: int,
        size: int | None,
        record: bool,
    ) -> tuple[State, tuple[jax.Array, Params | None]]:
        def epoch(
            state: State, dealt: tuple[jax.Array | None, dict[str, jax.Array]]
        ) -> tuple[State, tuple[jax.Array, Params | None]]:
            rows, masks = dealt
            if size is None or rows is None:
                state, losses = self._one_step(state, Dealt(x, y, masks))
            else:
                state, losses = self._one_epoch(state, x, y, rows, masks, size)
            return state, (losses, state.params if record else None)

        result: tuple[State, tuple[jax.Array, Params | None]] = jax.lax.scan(
            epoch, state, (orders, masks), length=epochs
        )
        return result

    def _one_epoch(
        self,
        state: State,
        x: jax.Array,
        y: jax.Array,
        rows: jax.Array,
        masks: dict[str, jax.Array],
        size: int,
    ) -> tuple[State, jax.Array]:
        """Full batches by a scan, a shorter last one after it: a scan's steps have one shape."""

        def step(state: State, part: tuple[jax.Array, dict[str, jax.Array]]) -> tuple[State, jax.Array]:
            rows, masks = part
            return self._one_step(state, Dealt(x[rows], y[rows], masks))

        full = len(rows) // size * size
        batches = jax.tree.map(lambda one: one[:full].reshape(-1, size, *one.shape[1:]), (rows, masks))
        state, losses = jax.lax.scan(step, state, batches)
        if full < len(rows):
            state, last = step(state, jax.tree.map(lambda one: one[full:], (rows, masks)))
            losses = jnp.append(losses, last)
        return state, losses

    def _stages(
        self, params: Params, buffers: Params, dealt: Dealt, inject: dict[str, jax.Array]
    ) -> tuple[Any, Any, Any, Any]:
        """Loss, layer outputs, their cotangents and the gradients."""

        def loss_of(params: Params, zeros: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
            tap = tapping(zeros, inject)
            (prediction, outputs), _ = self._model.apply(params, buffers, dealt.x, dealt.masks, True, tap)
            return self._penalise(self._loss(prediction, dealt.y), self._named(params)), outputs

        _, shapes = jax.eval_shape(lambda: loss_of(params, {}))
        zeros = {name: jnp.zeros(like.shape, like.dtype) for name, like in shapes.items()}
        (loss, outputs), (grads, cotangents) = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
            params, zeros
        )
        return loss, outputs, cotangents, grads

    def _place(self, key: str) -> tuple[str, str, str]:
        """Where ``<slot>/<parameter>`` is: the field of the Optax state, the Haiku module and its leaf."""
        slot, _, name = key.partition("/")
        return self._row.field(slot, self._problem.parameter_shapes[name]), *self._places[name]

    def _precision(self) -> AbstractContextManager[object]:
        """float64 needs JAX's x64 switch; float32 runs without it, as its users do (it changes float32 results).

        What is made in it lies on the trainer's device, and what is computed with that, too.
        """
        switch: AbstractContextManager[object] = jax.enable_x64(self._x64)
        if self._device is None:
            return switch
        stack = ExitStack()
        stack.enter_context(switch)
        stack.enter_context(jax.default_device(self._device))
        return stack

    def _haiku(self, arrays: Arrays) -> Params:
        return _placed(self._places, arrays)

    def _canonical(self, params: Params) -> dict[str, Array]:
        return {name: np.array(value) for name, value in self._named(params).items()}

    def _named(self, params: Params) -> dict[str, jax.Array]:
        return _named(self._places, params)


def _placed(places: Mapping[str, Place], arrays: Arrays) -> Params:
    """Canonical arrays in Haiku's form, copied."""
    params: Params = {}
    for name, value in arrays.items():
        module, leaf = places[name]
        params.setdefault(module, {})[leaf] = _entering(value)
    return params


def _named(places: Mapping[str, Place], params: Params) -> dict[str, jax.Array]:
    """By canonical name; nothing where nothing is kept."""
    return {name: params[module][leaf] for name, (module, leaf) in places.items()} if params else {}


def _dealt(batch: Batch) -> Dealt:
    return Dealt(_owned(batch.x), _owned(batch.y), {name: _owned(one) for name, one in batch.masks.items()})


def _field(optimizer: optax.OptState, name: str) -> Params:
    """The one field of that name, wherever in the chained states it is."""
    entry: Params = optax.tree_utils.tree_get(optimizer, name)
    return entry


def _entering(array: Array) -> jax.Array:
    """A copy that the first program that takes it brings to the device, at a tenth of what doing so here costs."""
    entering: jax.Array = cast(Any, array.copy())
    return entering


def _owned(array: Array) -> jax.Array:
    """The array on the device, copied: device_put may alias the caller's buffer, and ours are donated."""
    return jnp.array(array, copy=True)


class JaxBackend:
    """Haiku and Optax under jit; `fit` is one lax.scan."""

    name = "jax"
    kind: ClassVar[type[JaxTrainer]] = JaxTrainer
    platform: ClassVar[str] = "cpu"

    def __init__(self) -> None:
        self._device = devices.first(self.name, self.platform)

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, TABLES)

    def trainer(self, problem: Problem) -> JaxTrainer:
        return self.kind(problem, self._device)

    def optimizer_side(self, given: object) -> OptimizerSide | None:
        return optimizer_side(given)

    def adopt_step(self, given: GivenStep) -> JaxStep | None:
        return adopt_step(given)

    def initial(self, given: object) -> Snapshot | None:
        return initial(given)

    def seeded(self, seed: int) -> AbstractContextManager[object]:
        return nullcontext()  # every key is the user's own

    def fans(self, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        return fans(name, shape)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": jax.__version__,
            "dm-haiku": hk.__version__,
            "optax": optax.__version__,
            **devices.describe(self._device),
        }
