"""Planted port bugs: what ported training code gets wrong, each with the stages at which it is first to be seen.

A mutant is a row: what it does, where it shows, the problems that are made to show it, and how it is planted. Sites and
magnitudes are drawn from the seed that a row is given. The faults are written here for themselves; they share nothing with
`lockstep.harness.diagnose.explanations`, whose finding them is part of what is tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.errors import UnknownNameError
from lockstep.backends.problem import (
    CONSTANT,
    UNCLIPPED,
    Array,
    Arrays,
    Batch,
    Batches,
    Clip,
    Layer,
    Loss,
    Optimizer,
    Penalty,
    Problem,
    Schedule,
)
from lockstep.backends.protocol import Snapshot
from lockstep.harness.selftest.mutated import Hooks

Rng = np.random.Generator

BATCH = frozenset({"batch"})
START = frozenset({"initial"})
FORWARD = frozenset({"forward"})
LOSS = frozenset({"loss"})
BACKWARD = frozenset({"cotangent"})
GRADIENT = frozenset({"gradient"})
CLIPPED = frozenset({"clipped"})
OPTIMIZER = frozenset({"accumulator", "optimizer", "update"})
UPDATE = frozenset({"update", "parameters"})
CARRIED = frozenset({"fit", "continued", "free", "state"})
HIDDEN = CARRIED | {"step"}
"""What no snapshot holds: it shows where a step is not what its halves make."""


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what it does.
        stages: the kinds of stage one of which must be named as the first to differ.
        problems: where it can show.
        plant: (problem, generator of its site and magnitude) -> hooks.
        explanation: the name of the explanation that must be confirmed, where the table has one.
    """

    name: str
    stages: frozenset[str]
    problems: tuple[str, ...]
    plant: Callable[[Problem, Rng], Hooks]
    explanation: str | None = None


def _small(rng: Rng) -> float:
    """A relative change between 1e-8 and 1e-2, of either sign."""
    return float(rng.choice((-1, 1)) * 10 ** rng.uniform(-8, -2))


def _leaf(names: Mapping[str, Any], rng: Rng) -> str:
    return str(rng.choice(sorted(names)))


def _optimizer(**changes: Any) -> Callable[[Problem, Rng], Hooks]:
    """Other arguments of the optimizer."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        one = problem.optimizer
        return Hooks(problem.replace(optimizer=Optimizer(one.name, **{**one.args, **changes})))

    return plant


def _flipped(*keys: str) -> Callable[[Problem, Rng], Hooks]:
    """The other way of a switch of the optimizer."""
    return lambda problem, rng: _optimizer(**{key: not problem.optimizer.args[key] for key in keys})(
        problem, rng
    )


def _factor(key: str, by: Callable[[Rng], float]) -> Callable[[Problem, Rng], Hooks]:
    """An argument of the optimizer off by a factor."""
    return lambda problem, rng: _optimizer(**{key: problem.optimizer.args[key] * by(rng)})(problem, rng)


def _program(change: Callable[[Problem], Problem]) -> Callable[[Problem, Rng], Hooks]:
    """Another program over the same data."""
    return lambda problem, rng: Hooks(change(problem))


def _loss(name: str | None = None, **changes: Any) -> Callable[[Problem, Rng], Hooks]:
    return _program(
        lambda problem: problem.replace(
            loss=Loss(name or problem.loss.name, **{**problem.loss.args, **changes})
        )
    )


def _other_reduction(problem: Problem, rng: Rng) -> Hooks:
    other = {"sum": "mean", "mean": "sum"}[problem.loss.args["reduction"]]
    return _loss(reduction=other)(problem, rng)


def _layers(op: str, **changes: Any) -> Callable[[Problem, Rng], Hooks]:
    """Every layer of one kind, in branches too, with other arguments."""

    def altered(layer: Layer) -> Layer:
        branches = [[altered(one) for one in branch] for branch in layer.branches]
        args = {**layer.args, **(changes if layer.name == op else {})}
        return Layer(layer.name, branches=branches, **args)

    return _program(lambda problem: problem.replace(model=tuple(altered(layer) for layer in problem.model)))


def _swapped(op: str, other: str) -> Callable[[Problem, Rng], Hooks]:
    """One function without parameters for another."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        model = tuple(Layer(other) if layer.name == op else layer for layer in problem.model)
        initial = {name.replace(f".{op}/", f".{other}/"): value for name, value in problem.initial.items()}
        return Hooks(problem.replace(model=model, initial=initial))

    return plant


def _batch(change: Callable[[Batch, Rng], Batch]) -> Callable[[Problem, Rng], Hooks]:
    return lambda problem, rng: Hooks(batch=lambda batch: change(batch, rng))


def _single(values: Array) -> Array:
    return values.astype(np.float32).astype(values.dtype)


def _misaligned(batch: Batch, rng: Rng) -> Batch:
    return Batch(batch.x, np.roll(batch.y, 1, axis=0), batch.masks)


def _repeated_row(batch: Batch, rng: Rng) -> Batch:
    x, y = batch.x.copy(), batch.y.copy()
    x[-1], y[-1] = x[0], y[0]
    return Batch(x, y, batch.masks)


def _unscaled_masks(batch: Batch, rng: Rng) -> Batch:
    return Batch(
        batch.x, batch.y, {name: (mask > 0).astype(mask.dtype) for name, mask in batch.masks.items()}
    )


def _no_masks(batch: Batch, rng: Rng) -> Batch:
    return Batch(batch.x, batch.y, {name: np.ones_like(mask) for name, mask in batch.masks.items()})


def _column(problem: Problem, rng: Rng) -> Hooks:
    """One column of the data off by a factor."""
    column, factor = int(rng.integers(problem.x.shape[-1])), 1 + _small(rng)

    def change(batch: Batch) -> Batch:
        x = batch.x.copy()
        x[..., column] *= factor
        return Batch(x, batch.y, batch.masks)

    return Hooks(batch=change)


def _targets(problem: Problem, rng: Rng) -> Hooks:
    factor = 1 + _small(rng)
    return Hooks(batch=lambda batch: Batch(batch.x, batch.y * factor, batch.masks))


def _reported(problem: Problem, rng: Rng) -> Hooks:
    factor = 1 + _small(rng)
    return Hooks(loss=lambda loss: factor * loss)


def _grads(change: Callable[[Arrays, Arrays], Arrays]) -> Callable[[Problem, Rng], Hooks]:
    return lambda problem, rng: Hooks(turn=change)


def _each(change: Callable[[Array], Array]) -> Callable[[Arrays], dict[str, Array]]:
    return lambda arrays: {name: change(value) for name, value in arrays.items()}


def _times(factor: Callable[[Problem], float]) -> Callable[[Problem, Rng], Hooks]:
    def plant(problem: Problem, rng: Rng) -> Hooks:
        by = factor(problem)
        return Hooks(turn=lambda grads, previous: _each(lambda grad: by * grad)(grads))

    return plant


def _one_grad(change: Callable[[Array, Rng], Array]) -> Callable[[Problem, Rng], Hooks]:
    """The gradient of one parameter."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        name, seed = _leaf(problem.parameter_shapes, rng), int(rng.integers(1 << 30))
        return Hooks(
            turn=lambda grads, previous: {**grads, name: change(grads[name], np.random.default_rng(seed))}
        )

    return plant


def _one_element(grad: Array, rng: Rng) -> Array:
    changed = grad.copy()
    changed.flat[int(np.abs(grad).argmax())] *= 1 + _small(rng)
    return changed


def _transposed(problem: Problem, rng: Rng) -> Hooks:
    square = [
        name for name, shape in problem.parameter_shapes.items() if len(shape) == 2 and shape[0] == shape[1]
    ]
    return Hooks(turn=lambda grads, previous: {**grads, **{name: grads[name].T for name in square}})


def _transposed_start(problem: Problem, rng: Rng) -> Hooks:
    def start(snapshot: Snapshot) -> Snapshot:
        turned = {
            name: value.T if value.ndim == 2 and value.shape[0] == value.shape[1] else value
            for name, value in snapshot.parameters.items()
        }
        return dataclasses.replace(snapshot, parameters=turned)

    return Hooks(start=start)


def _started(change: Callable[[Array, Rng], Array]) -> Callable[[Problem, Rng], Hooks]:
    """One initial parameter."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        name = _leaf(
            {key: value for key, value in problem.initial_parameters().items() if np.any(value)}, rng
        )

        def start(snapshot: Snapshot) -> Snapshot:
            changed = {**snapshot.parameters, name: change(snapshot.parameters[name], rng)}
            return dataclasses.replace(snapshot, parameters=changed)

        return Hooks(start=start)

    return plant


def _seen(change: Callable[[Problem, Rng], Callable[[Arrays], Arrays]]) -> Callable[[Problem, Rng], Hooks]:
    return lambda problem, rng: Hooks(seen=change(problem, rng))


def _off_by(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    name, factor = _leaf(problem.parameter_shapes, rng), 1 + _small(rng)
    return lambda parameters: {**parameters, name: parameters[name] * factor}


def _no_bias(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    return lambda parameters: {
        name: np.zeros_like(value) if name.endswith("/b") else value for name, value in parameters.items()
    }


def _rounded_weights(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    return _each(_single)


def _settled(
    change: Callable[[Snapshot, Snapshot, Problem, str, float], Arrays],
) -> Callable[[Problem, Rng], Hooks]:
    """The parameters after an update: (before, after, problem, a leaf, a magnitude) -> parameters."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        name, size = _leaf(problem.parameter_shapes, rng), _small(rng)

        def settle(before: Snapshot, after: Snapshot) -> Snapshot:
            return dataclasses.replace(after, parameters=change(before, after, problem, name, size))

        return Hooks(settle=settle)

    return plant


def _moved(before: Snapshot, after: Snapshot, factor: Callable[[str], float]) -> dict[str, Array]:
    """Updates times a factor, by name of the parameter."""
    return {
        name: before.parameters[name] + factor(name) * (value - before.parameters[name])
        for name, value in after.parameters.items()
    }


def _corrected(before: Snapshot, after: Snapshot, problem: Problem, name: str, size: float) -> Arrays:
    """Adam's update as if it had neither bias correction."""
    args, t = problem.optimizer.args, after.step
    mean, square = 1 - args["beta1"] ** t, 1 - args["beta2"] ** t
    changed = {}
    for key, value in after.parameters.items():
        root = np.sqrt(after.optimizer[f"square/{key}"])
        ratio = mean * (root / np.sqrt(square) + args["epsilon"]) / (root + args["epsilon"])
        changed[key] = before.parameters[key] + ratio * (value - before.parameters[key])
    return changed


def _slots(slot: str, change: Callable[[Array, Array], Array]) -> Callable[[Problem, Rng], Hooks]:
    """What is kept in one slot: (before, after) -> after."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        def settle(before: Snapshot, after: Snapshot) -> Snapshot:
            kept = {
                key: change(before.optimizer[key], value) if key.startswith(f"{slot}/") else value
                for key, value in after.optimizer.items()
            }
            return dataclasses.replace(after, optimizer=kept)

        return Hooks(settle=settle)

    return plant


def _without(**parts: Callable[[Any], Any]) -> Callable[[Snapshot], Snapshot]:
    """A state of which some parts are lost."""

    def forget(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(
            snapshot, **{part: lose(getattr(snapshot, part)) for part, lose in parts.items()}
        )

    return forget


def _lost(**parts: Callable[[Any], Any]) -> Callable[[Problem, Rng], Hooks]:
    """What a checkpoint does not hold."""
    return lambda problem, rng: Hooks(read=_without(**parts))


def _each_epoch(**parts: Callable[[Any], Any]) -> Callable[[Problem, Rng], Hooks]:
    """What the fused run forgets between epochs."""
    return lambda problem, rng: Hooks(every_epoch=_without(**parts))


_zeros = _each(np.zeros_like)


def _run(change: Callable[[Batches], Batches]) -> Callable[[Problem, Rng], Hooks]:
    return lambda problem, rng: Hooks(run=change)


def _batching(**changes: Any) -> Callable[[Problem, Rng], Hooks]:
    return _run(
        lambda batches: dataclasses.replace(
            batches, batching=dataclasses.replace(batches.batching, **changes)
        )
    )


def _schedule(by: int) -> Callable[[Problem, Rng], Hooks]:
    """A schedule that is ahead or late, with everything else as it is."""

    def plant(problem: Problem, rng: Rng) -> Hooks:
        factor = problem.schedule.args["factor"]
        if problem.schedule.name == "exponential":
            return _factor("learning_rate", lambda rng: float(factor**by))(problem, rng)
        every = problem.schedule.args["steps"]
        turns = range(every, problem.steps + every, every)
        course = Schedule(
            "piecewise", boundaries=[turn - by for turn in turns], factors=[factor for _ in turns]
        )
        return Hooks(problem.replace(schedule=course))

    return plant


def _clipped_each(grads: Arrays, previous: Arrays) -> Arrays:
    """Each parameter by its own norm."""
    return {
        name: grad * min(1.0, 0.05 / (float(np.linalg.norm(grad)) + 1e-300)) for name, grad in grads.items()
    }


def _penalties(change: Callable[[Penalty], list[Penalty]]) -> Callable[[Problem, Rng], Hooks]:
    return _program(
        lambda problem: problem.replace(
            penalties=tuple(new for one in problem.penalties for new in change(one))
        )
    )


SHAPED = ("probe-square",)
ADAM = ("adam", "probe-small")
ALL = ("seed", "adam", "momentum", "minibatches", "residual-mlp")

MUTANTS: tuple[Mutant, ...] = (
    # data and batches
    Mutant("targets one row off", BATCH, ("seed", "minibatches", "huber"), _batch(_misaligned)),
    Mutant("the first row again instead of the last", BATCH, ("seed", "poisson"), _batch(_repeated_row)),
    Mutant(
        "data rounded to float32",
        BATCH,
        ("polynomial", "probe-double"),
        _batch(lambda batch, rng: Batch(_single(batch.x), _single(batch.y), batch.masks)),
        "single precision",
    ),
    Mutant(
        "targets rounded to float32",
        BATCH,
        ("probe-double",),
        _batch(lambda batch, rng: Batch(batch.x, _single(batch.y), batch.masks)),
    ),
    Mutant("a column of the data scaled", BATCH, ("seed", "ridge", "adam"), _column),
    Mutant("targets scaled", BATCH, ("seed", "huber", "quantile"), _targets),
    Mutant("dropout that does not rescale", BATCH, ("residual-mlp",), _batch(_unscaled_masks)),
    Mutant("dropout that does not drop", BATCH, ("residual-mlp",), _batch(_no_masks)),
    # initial parameters
    Mutant("a square weight transposed", START, SHAPED, _transposed_start, "rearranged parameter"),
    Mutant(
        "an initial parameter scaled",
        START,
        ("adam", "momentum"),
        _started(lambda value, rng: value * (1 + _small(rng))),
    ),
    Mutant(
        "an initial parameter rounded to float32",
        START,
        ("adam", "momentum"),
        _started(lambda value, rng: _single(value)),
    ),
    Mutant(
        "an initial parameter reversed",
        START,
        ("adam", "attention"),
        _started(lambda value, rng: value[..., ::-1].copy() if value.shape[-1] > 1 else -value),
    ),
    # forward
    Mutant("tanh GELU for the exact one", FORWARD, ("probe-gelu",), _layers("gelu", approximate="tanh")),
    Mutant("another slope left of 0", FORWARD, ("probe-leaky",), _layers("leaky_relu", slope=0.02)),
    Mutant("another epsilon in layer norm", FORWARD, ("residual-mlp",), _layers("layer_norm", epsilon=1e-6)),
    Mutant("another epsilon in batch norm", FORWARD, ("batch-norm",), _layers("batch_norm", epsilon=1e-3)),
    Mutant("the causal mask left out", FORWARD, ("attention",), _layers("attention", causal=False)),
    Mutant(
        "padding counted in the average",
        FORWARD,
        ("convolution-2d",),
        _layers("average_pool", count_padding=True),
    ),
    Mutant("softplus for relu", FORWARD, ("probe-relu",), _swapped("relu", "softplus")),
    Mutant("sigmoid for tanh", FORWARD, ("adam", "radam"), _swapped("tanh", "sigmoid")),
    Mutant("biases left out", FORWARD, ("adam", "momentum"), _seen(_no_bias)),
    Mutant("a parameter seen scaled", FORWARD, ("adam", "momentum", "nesterov"), _seen(_off_by)),
    Mutant("parameters seen in float32", FORWARD, ("adam", "rmsprop"), _seen(_rounded_weights)),
    # loss
    Mutant(
        "mean for sum, or sum for mean", LOSS, ("seed", "adam", "huber"), _other_reduction, "mean and sum"
    ),
    Mutant("half squares", LOSS, ("seed", "ridge"), _loss("half_squared_error"), "half squares"),
    Mutant("another delta in Huber's loss", LOSS, ("huber",), _loss(delta=1.5)),
    Mutant("another quantile", LOSS, ("quantile",), _loss(q=0.5)),
    Mutant(
        "squares for absolute errors",
        LOSS,
        ("huber",),
        _program(lambda p: p.replace(loss=Loss("squared_error", reduction=p.loss.args["reduction"]))),
    ),
    Mutant(
        "a loss reported scaled",
        LOSS,
        ("seed", "adam"),
        _reported,
    ),
    Mutant("a loss reported in float32", LOSS, ("seed", "adam"), lambda problem, rng: Hooks(loss=_single)),
    Mutant("the penalty left out", LOSS, ("lasso", "ridge-penalty"), _penalties(lambda one: []), "penalty"),
    Mutant("the penalty twice", LOSS, ("lasso", "ridge-penalty"), _penalties(lambda one: [one, one])),
    Mutant(
        "biases penalised too",
        LOSS,
        ("lasso", "ridge-penalty"),
        _penalties(lambda one: [Penalty(one.name, **{**one.args, "parameters": "all"})]),
        "penalty",
    ),
    # gradients
    Mutant("the wrong sign", GRADIENT, ("seed", "momentum"), _times(lambda problem: -1.0), "sign"),
    Mutant(
        "gradients summed over the rows",
        GRADIENT,
        ("momentum", "huber"),
        _times(lambda problem: float(len(problem.x))),
        "constant ratio",
    ),
    Mutant(
        "gradients twice as large",
        GRADIENT,
        ("seed", "momentum"),
        _times(lambda problem: 2.0),
        "constant ratio",
    ),
    Mutant(
        "one gradient left out",
        GRADIENT,
        ("adam", "momentum"),
        _one_grad(lambda grad, rng: np.zeros_like(grad)),
    ),
    Mutant(
        "one gradient scaled",
        GRADIENT,
        ("adam", "momentum"),
        _one_grad(lambda grad, rng: grad * (1 + _small(rng))),
    ),
    Mutant("one element of a gradient scaled", GRADIENT, ("adam", "momentum"), _one_grad(_one_element)),
    Mutant(
        "gradients rounded to float32",
        GRADIENT,
        ("seed", "adam", "minibatches"),
        _grads(lambda grads, previous: _each(_single)(grads)),
        "single precision",
    ),
    Mutant("a square gradient transposed", GRADIENT, SHAPED, _transposed, "transposed gradient"),
    Mutant(
        "gradients of each parameter clipped by themselves",
        GRADIENT | OPTIMIZER,
        ("clip-norm-exact",),
        _grads(_clipped_each),
    ),
    Mutant(
        "gradients of the step before",
        GRADIENT | HIDDEN,
        ("seed", "momentum", "adam"),
        _grads(lambda grads, previous: previous or grads),
        "stale gradient",
    ),
    Mutant(
        "gradients not set to zero",
        GRADIENT | HIDDEN,
        ("seed", "momentum"),
        _grads(lambda grads, previous: {name: grad + previous.get(name, 0) for name, grad in grads.items()}),
    ),
    # clipping, accumulation
    Mutant(
        "no clipping",
        CLIPPED,
        ("clip-norm", "clip-value"),
        _program(lambda p: p.replace(clip=UNCLIPPED)),
        "clip",
    ),
    Mutant(
        "clipping by value for norm",
        CLIPPED,
        ("clip-norm",),
        _program(lambda p: p.replace(clip=Clip("value", limit=p.clip.args["limit"]))),
        "clip",
    ),
    Mutant(
        "epsilon added to the norm",
        CLIPPED,
        ("clip-norm-exact",),
        _program(lambda p: p.replace(clip=Clip("norm", limit=p.clip.args["limit"], epsilon=1e-6))),
    ),
    Mutant(
        "accumulated gradients summed",
        GRADIENT | OPTIMIZER,
        ("accumulated",),
        _times(lambda problem: float(problem.accumulation)),
        "accumulation",
    ),
    # optimizers
    Mutant(
        "the learning rate scaled",
        OPTIMIZER,
        ("seed", "adam", "momentum", "lion"),
        _factor("learning_rate", lambda rng: 1 + _small(rng)),
    ),
    Mutant(
        "the learning rate in float32",
        OPTIMIZER,
        ("seed", "adam"),
        lambda p, rng: _optimizer(learning_rate=float(np.float32(p.optimizer.args["learning_rate"])))(p, rng),
        "single precision",
    ),
    Mutant(
        "the momentum scaled",
        OPTIMIZER,
        ("momentum", "nesterov", "dampening"),
        _factor("momentum", lambda rng: 1 - abs(_small(rng))),
    ),
    Mutant(
        "plain momentum for Nesterov's",
        OPTIMIZER,
        ("nesterov",),
        _flipped("nesterov"),
        "Nesterov and plain momentum",
    ),
    Mutant(
        "Nesterov's momentum for plain",
        OPTIMIZER,
        ("momentum",),
        _flipped("nesterov"),
        "Nesterov and plain momentum",
    ),
    Mutant("no dampening", OPTIMIZER, ("dampening",), _optimizer(dampening=0.0), "dampening"),
    Mutant("the first buffer damped", OPTIMIZER, ("dampening",), _flipped("first_damped")),
    Mutant(
        "coupled decay for decoupled",
        OPTIMIZER,
        ("adam-decoupled", "decoupled-momentum"),
        _flipped("decoupled"),
        "weight decay",
    ),
    Mutant(
        "decoupled decay for coupled",
        OPTIMIZER,
        ("adam-coupled", "weight-decay"),
        _flipped("decoupled"),
        "weight decay",
    ),
    Mutant(
        "no weight decay",
        OPTIMIZER,
        ("adam-coupled", "weight-decay", "adamw"),
        _optimizer(weight_decay=0.0),
        "weight decay",
    ),
    Mutant(
        "another beta1",
        OPTIMIZER,
        ("adam", "adamax", "nadam"),
        _factor("beta1", lambda rng: 1 - abs(_small(rng))),
    ),
    Mutant(
        "another beta2",
        OPTIMIZER,
        ("adam", "radam", "probe-spike"),
        _factor("beta2", lambda rng: 1 - abs(_small(rng))),
    ),
    Mutant(
        "epsilon inside the root",
        OPTIMIZER,
        ("adagrad", "rmsprop", "probe-small-rmsprop"),
        _flipped("epsilon_inside"),
        "place of epsilon",
    ),
    Mutant("another size of epsilon", OPTIMIZER, ADAM, _optimizer(epsilon=1e-7), "size of epsilon"),
    Mutant("no bias correction", OPTIMIZER, ("adam", "probe-small"), _settled(_corrected), "bias correction"),
    Mutant(
        "AMSGrad left out",
        OPTIMIZER,
        ("probe-spike-amsgrad",),
        _slots("largest", lambda before, after: np.zeros_like(after)),
    ),
    Mutant(
        "AMSGrad of the corrected squares",
        OPTIMIZER,
        ("amsgrad", "probe-spike-amsgrad"),
        _flipped("amsgrad_corrected"),
    ),
    Mutant("RMSprop not centred", OPTIMIZER | START, ("rmsprop-centered",), _flipped("centered")),
    Mutant(
        "Adagrad's first accumulator",
        OPTIMIZER | START | CARRIED,
        ("adagrad",),
        _optimizer(initial_accumulator=0.1),
    ),
    Mutant("stale Rprop", OPTIMIZER, ("rprop",), _flipped("stale")),
    Mutant(
        "the momentum kept in float32",
        OPTIMIZER,
        ("momentum", "nesterov"),
        _slots("momentum", lambda before, after: _single(after)),
    ),
    Mutant(
        "second moments that never move",
        OPTIMIZER,
        ("adam", "rmsprop"),
        _slots("square", lambda before, after: before + 0 * after),
    ),
    Mutant(
        "the schedule a step ahead",
        OPTIMIZER,
        ("schedule-step", "schedule-exponential"),
        _schedule(1),
        "schedule",
    ),
    Mutant(
        "the schedule a step late",
        OPTIMIZER,
        ("schedule-step", "schedule-exponential"),
        _schedule(-1),
        "schedule",
    ),
    Mutant(
        "no schedule",
        OPTIMIZER,
        ("schedule-step", "schedule-cosine", "schedule-exponential"),
        _program(lambda p: p.replace(schedule=CONSTANT)),
        "schedule",
    ),
    # updates
    Mutant(
        "a parameter never updated",
        UPDATE,
        ("adam", "momentum"),
        _settled(lambda before, after, p, name, size: {**after.parameters, name: before.parameters[name]}),
        "parameter never updated",
    ),
    Mutant(
        "updates of biases doubled",
        UPDATE,
        ("adam", "momentum"),
        _settled(
            lambda before, after, p, name, size: _moved(
                before, after, lambda key: 2.0 if key.endswith("/b") else 1.0
            )
        ),
    ),
    Mutant(
        "the updates of a parameter scaled",
        UPDATE,
        ("adam", "momentum"),
        _settled(
            lambda before, after, p, name, size: _moved(
                before, after, lambda key: 1 + size if key == name else 1.0
            )
        ),
    ),
    Mutant(
        "parameters kept in float32",
        UPDATE,
        ("adam", "momentum", "minibatches"),
        _settled(lambda before, after, p, name, size: _each(_single)(after.parameters)),
        "single precision",
    ),
    # averages and buffers
    Mutant(
        "another momentum of batch norm",
        frozenset({"buffers"}),
        ("batch-norm",),
        _layers("batch_norm", momentum=0.01),
    ),
    Mutant(
        "a biased running variance",
        frozenset({"buffers"}),
        ("batch-norm",),
        _layers("batch_norm", unbiased=False),
    ),
    # what is carried
    Mutant("momentum lost in a checkpoint", CARRIED, ("momentum", "nesterov"), _lost(optimizer=_zeros)),
    Mutant("the count lost in a checkpoint", CARRIED, ("adam", "schedule-step"), _lost(step=lambda step: 0)),
    Mutant("running averages lost in a checkpoint", CARRIED, ("batch-norm",), _lost(buffers=_zeros)),
    Mutant(
        "momentum reset at each epoch",
        CARRIED,
        ("momentum", "minibatches", "adam"),
        _each_epoch(optimizer=_zeros),
    ),
    Mutant(
        "the count reset at each epoch",
        CARRIED,
        ("adam", "schedule-exponential"),
        _each_epoch(step=lambda step: 0),
    ),
    Mutant(
        "accumulated gradients lost at the end of an epoch",
        CARRIED,
        ("accumulated",),
        _each_epoch(accumulator=_zeros),
    ),
    Mutant("rows not shuffled", CARRIED, ("minibatches",), _batching(shuffle=None), "batch order"),
    Mutant(
        "the last, short batch dropped", CARRIED, ("minibatches",), _batching(keep_last=False), "last batch"
    ),
    Mutant(
        "one epoch short",
        CARRIED,
        ("seed", "momentum"),
        _run(lambda batches: dataclasses.replace(batches, epochs=batches.epochs - 1)),
        "length of the run",
    ),
)
"""All that are planted."""


def named(texts: Sequence[str] | None) -> list[Mutant]:
    """The mutants whose name holds one of `texts`; all where none is given.

    Raises:
        UnknownNameError: no name holds one of them.
    """
    for text in texts or ():
        if not any(text in one.name for one in MUTANTS):
            raise UnknownNameError(
                "no planted bug has that in its name", repr(text), "leave --mutant out to see all"
            )
    return [one for one in MUTANTS if not texts or any(text in one.name for text in texts)]
