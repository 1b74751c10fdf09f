"""A user's own Haiku transform, or any pure apply function over a tree of parameters, with an Optax transform, as a trainer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lockstep.backends.adoption import (
    AdoptedTrainer,
    AdoptionError,
    Draw,
    Narrow,
    Tree,
    check_kind,
    check_names,
    common_dtype,
)
from lockstep.backends.jax_haiku.adoption import draws, extra_args, objects, widening
from lockstep.backends.jax_haiku.adoption.on_jax import OnJax, needs_x64
from lockstep.backends.jax_haiku.adoption.parts import (
    Apply,
    applying,
    arrays,
    as_array,
    coarsest,
    comparable,
    free_prefix,
    named,
    passing,
    watching,
    written,
)
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import NOTHING, Scalar, Snapshot, select

TRANSFORMS = (hk.Transformed, hk.TransformedWithState)

OUTPUT = "output"
"""What a stage calls the output of the whole model."""


CARRIED = "model state/"
"""Prefix in the optimizer's state of a snapshot: what the model's state holds besides floats, counters say. It is no buffer to be linked."""

SPLIT = "apply gradients to the state that `gradients` gave: only that one knows its loss and its batch"


class Seen(NamedTuple):
    """What the gradients of a step were computed from, besides its parameters, and its loss."""

    loss: Any
    buffers: Tree
    key: Any
    x: Tree
    y: Tree
    masks: Mapping[str, Any]


class State(NamedTuple):
    """Pure trees: nothing is donated or changed in place.

    Attributes:
        seen: between the two halves of a step, for optimizers that evaluate the loss.
    """

    params: Tree
    optimizer: optax.OptState
    step: int
    buffers: Tree
    seen: Seen | None = None


class JaxAdopted(OnJax, AdoptedTrainer):
    """See `adopt`."""

    capabilities = AdoptedTrainer.capabilities | {"inject", "widen"}

    def __init__(
        self,
        apply: Apply,
        loss: Callable[[Any, Any], Any] | None,
        optimizer: optax.GradientTransformation,
        params: Tree,
        buffers: Tree,
        key: Any,
        stages: Callable[..., Mapping[str, Any]] | None,
        name: str,
        *,
        wide: bool = False,
    ) -> None:
        self.name = name
        self._call, self._loss, self._optimizer = apply, loss, optimizer
        self._params, self._buffers, self._key, self._stages = params, buffers, key, stages
        self._wide = wide
        leaves = named(params)
        self.dtype = common_dtype(name, {one: str(np.asarray(value).dtype) for one, value in leaves.items()})
        self._prefix = free_prefix(buffers, leaves)
        self._x64 = needs_x64(self.dtype)
        self._loss_of, self._update = self._arithmetic(self._evaluated), self._arithmetic(self._updated)
        self._step = jax.jit(self._one_step)
        self._loss_and_grads = jax.value_and_grad(self._loss_of, has_aux=True)
        self._grads = jax.jit(self._loss_and_grads)
        self._apply = jax.jit(self._update)
        self._observe = jax.jit(self._observed, static_argnums=0)
        self._modules: list[str] = []

    @property
    def generator(self) -> str:
        return "" if self._key is None else f"jax, key {np.asarray(jax.random.key_data(self._key)).tolist()}"

    def redrawn(self) -> JaxAdopted | None:
        if self._key is None:
            return None
        return self._again(jax.random.fold_in(self._key, 2**31 - 1), self._wide)

    def narrowed(self, batch: Batch) -> tuple[Narrow, ...]:
        state = self.init()
        with self._precision():
            batch_and_key = (self._drawn(0), batch.x, batch.y, dict(batch.masks))
            return widening.narrowed(
                self._forward_and_update, state.params, state.optimizer, state.buffers, *batch_and_key
            )

    def _forward_and_update(self, params: Tree, optimizer: optax.OptState, buffers: Tree, *given: Any) -> Any:
        """All that the user's code computes itself in a step: the backward pass follows it."""
        loss, moved = self._loss_of(params, buffers, *given)
        return moved, self._update(params, optimizer, params, Seen(loss, buffers, *given))

    def widened(self) -> JaxAdopted:
        return self._again(self._key, True)

    def _again(self, key: Any, wide: bool) -> JaxAdopted:
        """The same code with this key, computed in float64 or as it is."""
        return JaxAdopted(
            self._call,
            self._loss,
            self._optimizer,
            self._params,
            self._buffers,
            key,
            self._stages,
            self.name,
            wide=wide,
        )

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        state = self.init()
        with self._precision():
            key = self._drawn(0)
            x = jax.tree.map(jnp.asarray, self._taken(batch.x, batch.y))
            return draws.observed(self._call, state.params, state.buffers, key, x)

    def init(self) -> State:
        with self._precision():
            params, buffers = jax.tree.map(jnp.asarray, (self._params, self._buffers))
            return State(params, self._begun(params), 0, widening.wide(buffers) if self._wide else buffers)

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        with self._precision():
            params, optimizer, buffers, loss, drawn = self._step(
                state.params,
                state.optimizer,
                state.buffers,
                self._drawn(state.step),
                batch.x,
                batch.y,
                dict(batch.masks),
            )
            draws.check(self.name, drawn, batch.masks)
            return State(params, optimizer, state.step + 1, buffers), comparable(loss, self.dtype)

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, Tree]:
        with self._precision():
            batch_and_key = (self._drawn(state.step), batch.x, batch.y, dict(batch.masks))
            (loss, (buffers, drawn)), grads = self._grads(state.params, state.buffers, *batch_and_key)
            draws.check(self.name, drawn, batch.masks)
            seen = Seen(loss, state.buffers, *batch_and_key)
            return state._replace(buffers=buffers, seen=seen), comparable(loss, self.dtype), grads

    def apply(self, state: State, grads: Tree) -> State:
        with self._precision():
            params, optimizer = self._apply(state.params, state.optimizer, grads, state.seen)
            return State(params, optimizer, state.step + 1, state.buffers)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        backward = not {"cotangent", "gradient"}.isdisjoint(wanted)
        with self._precision():
            x, y = jax.tree.map(jnp.asarray, (batch.x, batch.y))
            key, masks = self._drawn(state.step), dict(batch.masks)
            drawn, loss, outputs, cotangents, grads = self._observe(
                backward, dict(inject), state.params, state.buffers, key, x, y, masks
            )
            draws.check(self.name, drawn, masks)
            # Stages are in the order of their computation.
            shown = {name: outputs[name] for name in self._modules if name != OUTPUT}
            shown |= {} if self._stages is None else self._arithmetic(self._given_stages)(state.params, x)
            shown |= {OUTPUT: outputs[OUTPUT]} if OUTPUT in outputs else {}
            self.coarsest = coarsest(shown.values())
            stages = {f"forward/{name}": as_array(value) for name, value in shown.items()}
            stages["loss"] = np.array(comparable(loss, self.dtype))
            order = [name for name in reversed(self._modules) if name in cotangents]
            stages |= {f"cotangent/{name}": as_array(cotangents[name]) for name in order}
            stages |= {f"gradient/{name}": as_array(value) for name, value in named(grads).items()}
            return select(stages, wanted)

    def _observed(
        self,
        backward: bool,
        inject: Arrays,
        params: Tree,
        buffers: Tree,
        key: Any,
        x: Tree,
        y: Tree,
        masks: dict[str, Any],
    ) -> tuple[Any, Any, dict[str, Any], dict[str, Any], Tree]:
        """The number of draws, the loss, outputs by module, and with `backward` their cotangents and the parameters' gradients."""
        call = draws.replaced(partial(self._watched, inject), masks)

        def run(perturb: dict[str, Any], params: Tree) -> tuple[Any, dict[str, Any], Any]:
            ((output, _), outputs), drawn = call(params, buffers, key, self._taken(x, y), perturb)
            if self._loss is not None and isinstance(output, jax.Array):
                output = passing(OUTPUT, output, outputs, inject, perturb)
            loss = output if self._loss is None else self._loss(output, y)
            return loss, outputs, drawn

        run = self._arithmetic(run)
        loss, outputs, drawn = run({}, params)
        self._modules = list(outputs)
        if not backward:
            return drawn, loss, outputs, {}, {}
        floats = {
            name: jnp.zeros_like(value)
            for name, value in outputs.items()
            if jnp.issubdtype(value.dtype, jnp.inexact)
        }
        # The derivative with respect to what is added to an output is its cotangent.
        derivatives = jax.grad(lambda perturb, params: run(perturb, params)[0], argnums=(0, 1))
        return drawn, loss, outputs, *derivatives(floats, params)

    def predict(self, state: State, x: Array) -> Array:
        with self._precision():
            output, _ = self._arithmetic(self._call)(
                state.params, state.buffers, self._drawn(state.step), jax.tree.map(jnp.asarray, x)
            )
            return as_array(output)

    def read(self, state: State) -> Snapshot:
        wide = comparable(state.buffers, self.dtype)
        buffers = arrays(wide, self._prefix)
        floats = {name: one for name, one in buffers.items() if one.dtype.kind == "f"}
        others = {name: one for name, one in arrays(wide, CARRIED).items() if one.dtype.kind != "f"}
        optimizer = {**arrays(state.optimizer), **others}
        return Snapshot(arrays(state.params), optimizer, state.step, floats)

    def write(self, state: State, snapshot: Snapshot) -> State:
        check_names(self.name, snapshot.parameters, named(state.params))
        with self._precision():
            params = written(state.params, snapshot.parameters)
            optimizer = self._begun(params)
            if snapshot.optimizer:
                optimizer = written(optimizer, snapshot.optimizer, like=state.optimizer)
            buffers = written(state.buffers, snapshot.buffers, prefix=self._prefix)
            buffers = written(buffers, snapshot.optimizer, prefix=CARRIED)
            return State(params, optimizer, snapshot.step, buffers)

    def read_grads(self, grads: Tree) -> Arrays:
        return arrays(grads)

    def write_grads(self, values: Arrays) -> Tree:
        check_names(self.name, values, named(self._params))
        with self._precision():
            return written(self._params, values)

    def _watched(
        self, inject: Arrays, params: Tree, buffers: Tree, key: Any, x: Any, perturb: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """What the model gives, and what each Haiku module gives; see `watching`."""
        outputs: dict[str, Any] = OrderedDict()  # a tree that keeps its order
        with hk.intercept_methods(watching(outputs, inject, perturb)):
            return self._call(params, buffers, key, x), outputs

    def _given_stages(self, params: Tree, x: Any) -> Mapping[str, Any]:
        assert self._stages is not None
        return OrderedDict(self._stages(params, x))

    def _begun(self, params: Tree) -> optax.OptState:
        """A fresh optimizer's state in the arithmetic of this trainer."""
        optimizer = self._optimizer.init(params)
        return widening.wide(optimizer) if self._wide else optimizer

    def _arithmetic(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function in the arithmetic of this trainer."""
        return widening.widened(function) if self._wide else function

    def _taken(self, x: Tree, y: Tree) -> Any:
        """What the model takes of a batch."""
        return (x, y) if self._loss is None else x

    def _evaluated(
        self, params: Tree, buffers: Tree, key: Any, x: Tree, y: Tree, masks: Mapping[str, Any]
    ) -> tuple[Any, tuple[Tree, Any]]:
        """The loss; the buffers after it, and the number of draws."""
        call = draws.replaced(self._call, masks)
        # Made anew: Flax NNX lets its variables be changed only where they were made.
        own = jax.tree.map(lambda one: one, buffers)
        (output, moved), drawn = call(params, own, key, self._taken(x, y))
        return output if self._loss is None else self._loss(output, y), (moved, drawn)

    def _updated(
        self, params: Tree, optimizer: optax.OptState, grads: Tree, seen: Seen | None
    ) -> tuple[Tree, optax.OptState]:
        known: extra_args.Offered = {}
        if seen is not None:
            known = extra_args.offered(seen.loss, grads, lambda params: self._loss_of(params, *seen[1:])[0])
        updates, optimizer = extra_args.update(self._optimizer, grads, optimizer, params, known, SPLIT)
        return optax.apply_updates(params, updates), optimizer

    def _one_step(
        self,
        params: Tree,
        optimizer: optax.OptState,
        buffers: Tree,
        key: Any,
        x: Tree,
        y: Tree,
        masks: dict[str, Any],
    ) -> tuple[Tree, optax.OptState, Tree, jax.Array, jax.Array]:
        (loss, (moved, drawn)), grads = self._loss_and_grads(params, buffers, key, x, y, masks)
        seen = Seen(loss, buffers, key, x, y, masks)
        params, optimizer = self._update(params, optimizer, grads, seen)
        return params, optimizer, moved, loss, drawn

    def _drawn(self, step: int) -> Any:
        return None if self._key is None else jax.random.fold_in(self._key, step)


def adopt(
    model: Any,
    loss: Callable[[Any, Any], Any] | None,
    optimizer: optax.GradientTransformation | None = None,
    params: Tree = None,
    *,
    state: Tree = None,
    key: Any = None,
    stages: Callable[..., Mapping[str, Any]] | None = None,
    name: str = "jax",
) -> JaxAdopted:
    """Your own JAX training code as a trainer. A step is jitted: value_and_grad, ``optimizer.update``, apply_updates.

    Args:
        model: a Haiku transform (with state or without), or a pure function ``apply(params, x)``; with `state` it is
            ``apply(params, state, x) -> (output, state)``, with `key` its last argument is the key.
            Objects are taken as they are, with `params` a Flax Linen module, and by themselves those that hold their parameters
            (a Flax TrainState with its `apply_fn` and transform, a Flax NNX module, an Equinox module, which is called
            row by row). What calls them otherwise (``train=True``) is a function of yours.
        loss: (output, y) -> a scalar; None where ``model(params, (x, y))`` gives the loss itself.
        optimizer: an Optax transform; with an NNX module also its `nnx.Optimizer`, with a TrainState by default its own. It starts afresh.
        params: nothing for an object that holds them; for a Linen module those, or all that its ``init`` gave; else a tree of arrays, all float64 or all float32: of Haiku, Flax or plain dicts as they are, of Flax NNX the
            second part of ``nnx.split``, of Equinox the first of ``eqx.partition(model, eqx.is_inexact_array)``.
        state: what the forward pass of training moves (running averages), a tree of arrays.
        key: random numbers for code that draws; each step folds its number in.
        stages: (params, x) -> values on the way by name, for a diagnosis; those of Haiku modules come by themselves.
        name: what reports call it.

    Raises:
        AdoptionError: a leaf of `params` is no array, or the dtypes are not one.
    """
    held = objects.taken_apart(model, optimizer, params)
    if held is not None:
        fix = "leave it out: the object holds its own"
        check_kind(name, "the state next to such a model", state, state is None, fix)
        optimizer, params, state = held.optimizer, held.params, held.state
    is_model = held is not None or callable(model) or isinstance(model, TRANSFORMS)
    fix = "give a Haiku transform, a function apply(params, x), or an object that holds its parameters"
    check_kind(name, "the model", model, is_model, fix)
    is_loss = loss is None or callable(loss)
    check_kind(name, "the loss", loss, is_loss, "give a function (output, y) -> a scalar, or None")
    # MultiSteps is no transform, but has what one has.
    is_optimizer = all(callable(getattr(optimizer, one, None)) for one in ("init", "update"))
    check_kind(name, "the optimizer", optimizer, is_optimizer, "give an Optax transform: optax.adam(0.001)")
    _check_state(name, model, state)
    _check_leaves(name, params)
    apply = applying(model, state is not None, key is not None) if held is None else held.apply
    return JaxAdopted(apply, loss, optimizer, params, state, key, stages, name)


def _check_state(name: str, model: Any, state: Tree) -> None:
    """A Haiku transform says whether it has one."""
    if isinstance(model, hk.Transformed):
        fix = "leave out state=, or give an hk.transform_with_state"
        check_kind(name, "the state of a Haiku transform that has none", state, state is None, fix)
    if isinstance(model, hk.TransformedWithState):
        fix = "give state=, the second of what its init gave"
        check_kind(name, "the state of its Haiku transform", state, state is not None, fix)


def _check_leaves(name: str, params: Tree) -> None:
    odd = [one for one, leaf in named(params).items() if not hasattr(leaf, "dtype")]
    if odd:
        raise AdoptionError(
            f"{name}: leaves of its parameters are not arrays",
            ", ".join(odd),
            "give the arrays alone, as jax.grad takes them: eqx.partition or nnx.split separate them from the rest",
        )
