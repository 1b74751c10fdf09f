"""The JAX backend: a problem as Haiku modules and an Optax transform, jitted, and scanned over epochs."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from backends.jax_haiku.clips import CLIPS
from backends.jax_haiku.layers import FUNCTIONS
from backends.jax_haiku.losses import LOSSES
from backends.jax_haiku.optimizers import OPTIMIZERS
from backends.jax_haiku.schedules import SCHEDULES, scheduled
from backends.problem import Array, Arrays, Batch, Batches, Placed, Problem
from backends.protocol import Recording, Scalar, Snapshot, Trace, Unsupported, select, unsupported

Params = dict[str, dict[str, jax.Array]]


class State(NamedTuple):
    params: Params
    optimizer: optax.OptState
    step: jax.Array


class JaxTrainer:
    """A problem bound to Haiku and Optax. States are donated: each method's input state is used up."""

    capabilities = frozenset({"fit", "stages", "optimizer_state"})

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._x64 = problem.dtype == "float64"
        self._row = row = OPTIMIZERS[problem.optimizer.name]
        base = float(problem.optimizer.args["learning_rate"])
        rate = scheduled(base, problem.schedule.name, problem.schedule.args)
        clip = CLIPS[problem.clip.name](problem.clip.args)
        self._optimizer = optax.chain(clip, row.build(problem.optimizer.args, rate))
        self._kept = problem.optimizer.initial_state(problem.initial_parameters())
        self._loss = LOSSES[problem.loss.name](problem.loss.args)
        self._places = dict(_haiku_places(problem.layers))
        self._model: hk.Transformed = hk.without_apply_rng(
            hk.transform(functools.partial(_forward, problem.layers))
        )
        self._gradients = jax.jit(self._loss_and_grads)
        self._apply = jax.jit(self._update, donate_argnums=0)
        self._step = jax.jit(self._one_step, donate_argnums=0)
        self._fit = jax.jit(self._scan, donate_argnums=0, static_argnames=("epochs", "size", "record"))
        self._observe = jax.jit(self._stages)

    def given(self) -> Arrays:
        with self._precision():
            batches = self._problem.batches()
            initial = self._canonical(self.init().params)
            return {
                "data/x": np.array(_owned(batches.x)),
                "data/y": np.array(_owned(batches.y)),
                **{f"initial/{name}": value for name, value in initial.items()},
            }

    def init(self) -> State:
        with self._precision():
            params = self._haiku(self._problem.initial_parameters())
            return State(params, self._optimizer.init(params), jnp.asarray(0))

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        with self._precision():
            stepped: tuple[State, Scalar] = self._step(state, *map(_owned, batch))
            return stepped

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Params]:
        with self._precision():
            loss, grads = self._gradients(state.params, *map(_owned, batch))
            return state, loss, grads

    def apply(self, state: State, grads: Params) -> State:
        with self._precision():
            applied: State = self._apply(state, grads)
            return applied

    def observe(self, state: State, batch: Batch, wanted: Collection[str]) -> Arrays:
        with self._precision():
            loss, outputs, cotangents, grads = self._observe(state.params, *map(_owned, batch))
            stages = {
                "batch/x": batch.x,
                "batch/y": batch.y,
                **{f"forward/{layer.name}": outputs[layer.name] for layer in self._problem.layers},
                "loss": loss,
                **{f"cotangent/{layer.name}": cotangents[layer.name] for layer in self._problem.layers[::-1]},
                **{f"gradient/{name}": grad for name, grad in self._canonical(grads).items()},
            }
            return {name: np.array(value) for name, value in select(stages, wanted).items()}

    def read(self, state: State) -> Snapshot:
        kept = {
            key: np.array(_field(state.optimizer, field)[module][leaf]).reshape(like.shape)
            for key, like in self._kept.items()
            for field, module, leaf in [self._place(key)]
        }
        return Snapshot(self._canonical(state.params), kept, int(state.step))

    def write(self, state: State, snapshot: Snapshot) -> State:
        with self._precision():
            params = self._haiku(snapshot.parameters)
            optimizer = self._optimizer.init(params)
            fields: dict[str, Any] = {}
            for key in self._kept:
                field, module, leaf = self._place(key)
                held = fields.setdefault(field, jax.tree.map(lambda leaf: leaf, _field(optimizer, field)))
                held[module][leaf] = _owned(snapshot.optimizer[key].reshape(held[module][leaf].shape))
            scalars = {"count": lambda args, step: jnp.asarray(step, jnp.int32), **self._row.scalars}
            for field, value in scalars.items():
                if optax.tree_utils.tree_get_all_with_path(optimizer, field):
                    fields[field] = value(self._problem.optimizer.args, snapshot.step)
            optimizer = optax.tree_utils.tree_set(optimizer, **fields) if fields else optimizer
            optimizer = jax.tree.map(jnp.copy, optimizer)  # a field that stands twice is donated twice
            return State(params, optimizer, jnp.asarray(snapshot.step))

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
            orders = None if size is None else np.stack([batches.order(one) for one in range(batches.epochs)])
            state, (losses, later) = self._fit(
                state,
                _owned(batches.x),
                _owned(batches.y),
                orders,
                epochs=batches.epochs,
                size=size,
                record=recording.parameters,
            )
            history = None
            if recording.parameters:
                rest = self._canonical(later)
                history = {name: np.concatenate([first[name][None], rest[name]]) for name in rest}
            return Trace(np.array(losses).ravel(), self.read(state), history)

    def _loss_and_grads(self, params: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Params]:
        def loss_of(params: Params) -> jax.Array:
            prediction, _ = self._model.apply(params, x, {})
            return self._loss(prediction, y)

        result: tuple[jax.Array, Params] = jax.value_and_grad(loss_of)(params)
        return result

    def _update(self, state: State, grads: Params) -> State:
        updates, optimizer = self._optimizer.update(grads, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), optimizer, state.step + 1)

    def _one_step(self, state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
        loss, grads = self._loss_and_grads(state.params, x, y)
        return self._update(state, grads), loss

    def _scan(
        self,
        state: State,
        x: jax.Array,
        y: jax.Array,
        orders: jax.Array | None,
        epochs: int,
        size: int | None,
        record: bool,
    ) -> tuple[State, tuple[jax.Array, Params | None]]:
        def epoch(state: State, rows: jax.Array | None) -> tuple[State, tuple[jax.Array, Params | None]]:
            if size is None or rows is None:
                state, losses = self._one_step(state, x, y)
            else:
                state, losses = self._one_epoch(state, x, y, rows, size)
            return state, (losses, state.params if record else None)

        result: tuple[State, tuple[jax.Array, Params | None]] = jax.lax.scan(
            epoch, state, orders, length=epochs
        )
        return result

    def _one_epoch(
        self, state: State, x: jax.Array, y: jax.Array, rows: jax.Array, size: int
    ) -> tuple[State, jax.Array]:
        """Full batches by a scan, a shorter last one after it: a scan's steps have one shape."""

        def step(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
            return self._one_step(state, x[rows], y[rows])

        full = len(rows) // size * size
        state, losses = jax.lax.scan(step, state, rows[:full].reshape(-1, size))
        if full < len(rows):
            state, last = step(state, rows[full:])
            losses = jnp.append(losses, last)
        return state, losses

    def _stages(self, params: Params, x: jax.Array, y: jax.Array) -> tuple[Any, Any, Any, Any]:
        """Loss, layer outputs, their cotangents and the gradients.

        A zero added to each layer's output leaves the value as it is, and the derivative with respect to that
        zero is the cotangent of the output.
        """

        def loss_of(params: Params, zeros: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
            prediction, outputs = self._model.apply(params, x, zeros)
            return self._loss(prediction, y), outputs

        _, shapes = jax.eval_shape(lambda: self._model.apply(params, x, {}))
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
        """float64 needs JAX's x64 switch; float32 runs without it, as its users do (it changes float32 results)."""
        switch: AbstractContextManager[object] = jax.enable_x64(self._x64)
        return switch

    def _haiku(self, arrays: Arrays) -> Params:
        params: Params = {}
        for name, value in arrays.items():
            module, leaf = self._places[name]
            params.setdefault(module, {})[leaf] = _owned(value)
        return params

    def _canonical(self, params: Params) -> dict[str, Array]:
        return {name: np.array(params[module][leaf]) for name, (module, leaf) in sorted(self._places.items())}


def _field(optimizer: optax.OptState, name: str) -> Params:
    """The one field of that name, wherever in the chained states it is."""
    found: Params = optax.tree_utils.tree_get(optimizer, name)
    return found


def _owned(array: Array) -> jax.Array:
    """The array on the device, copied: device_put may alias the caller's buffer, and ours are donated."""
    return jnp.array(array, copy=True)


def _haiku_places(layers: tuple[Placed, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Canonical parameter name -> (Haiku module, Haiku leaf)."""
    for layer in layers:
        for parameter in layer.parameters:
            yield layer.leaf(parameter), (_module_name(layer), FUNCTIONS[layer.op].leaves[parameter])


def _module_name(layer: Placed) -> str:
    """Haiku wants an identifier: ``0.linear`` becomes ``linear_0``."""
    index, _, op = layer.name.partition(".")
    return f"{op}_{index}"


def _forward(
    layers: tuple[Placed, ...], x: jax.Array, zeros: Mapping[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The model's output and every layer's; `zeros` are added to the outputs that they name."""
    outputs = {}
    for layer in layers:
        x = FUNCTIONS[layer.op].build(layer.args, _module_name(layer))(x)
        if layer.name in zeros:
            x = x + zeros[layer.name]
        outputs[layer.name] = x
    return x, outputs


class JaxBackend:
    """Haiku and Optax under jit; `fit` is one lax.scan."""

    name = "jax"

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, FUNCTIONS, LOSSES, OPTIMIZERS, SCHEDULES, CLIPS)

    def trainer(self, problem: Problem) -> JaxTrainer:
        return JaxTrainer(problem)

    def environment(self) -> Mapping[str, str | int | bool]:
        device = jax.devices()[0]
        precision = jax.config.values["jax_default_matmul_precision"]
        # On a CPU the precision setting changes nothing; on an accelerator the default may round to TF32 or bfloat16.
        reduced = device.platform != "cpu" and precision not in ("highest", "float32")
        return {
            "version": jax.__version__,
            "dm-haiku": hk.__version__,
            "optax": optax.__version__,
            "device": str(device.device_kind),
            "matmul_precision": str(precision),
            "reduced_precision": reduced,
        }
