"""Bugs of the update: the optimizer's arguments and state, the schedule, what becomes of the parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.backends.problem import CONSTANT, Array, Arrays, Optimizer, Problem, Schedule
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations import (
    BIAS_CORRECTION,
    CONSTANT_RATIO,
    DAMPENING,
    EPSILON_PLACE,
    EPSILON_SIZE,
    LEARNING_RATE,
    NESTEROV,
    NEVER_UPDATED,
    SCHEDULE,
    SINGLE_PRECISION,
    WEIGHT_DECAY,
)
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest.mutants.mutant import (
    CARRIED,
    OPTIMIZER,
    START,
    UPDATE,
    Mutant,
    Plant,
    Rng,
    each,
    leaf,
    program,
    single,
    small,
)


def _optimizer(**changes: Any) -> Plant:
    """Other arguments of the optimizer."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        one = problem.optimizer
        return Intervention(spec=problem.replace(optimizer=Optimizer(one.name, **{**one.args, **changes})))

    return plant


def _flipped(*keys: str) -> Plant:
    """The other way of a switch of the optimizer."""
    return lambda problem, rng: _optimizer(**{key: not problem.optimizer.args[key] for key in keys})(
        problem, rng
    )


def _factor(key: str, by: Callable[[Rng], float]) -> Plant:
    """An argument of the optimizer off by a factor."""
    return lambda problem, rng: _optimizer(**{key: problem.optimizer.args[key] * by(rng)})(problem, rng)


def _after_update(change: Callable[[Snapshot, Snapshot, Problem, str, float], Arrays]) -> Plant:
    """The parameters after an update: (before, after, problem, a leaf, a magnitude) -> parameters."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        name, size = leaf(problem.parameter_shapes, rng), small(rng)

        def on_update(before: Snapshot, after: Snapshot) -> Snapshot:
            return dataclasses.replace(after, parameters=change(before, after, problem, name, size))

        return Intervention(on_update=on_update)

    return plant


def _moved(before: Snapshot, after: Snapshot, factor: Callable[[str], float]) -> dict[str, Array]:
    """Updates times a factor, by name of the parameter."""
    return {
        name: before.parameters[name] + factor(name) * (value - before.parameters[name])
        for name, value in after.parameters.items()
    }


def _uncorrected(before: Snapshot, after: Snapshot, problem: Problem, name: str, size: float) -> Arrays:
    """Adam's update as if it had neither bias correction."""
    args, t = problem.optimizer.args, after.step
    mean, square = 1 - args["beta1"] ** t, 1 - args["beta2"] ** t
    changed = {}
    for key, value in after.parameters.items():
        root = np.sqrt(after.optimizer[f"square/{key}"])
        ratio = mean * (root / np.sqrt(square) + args["epsilon"]) / (root + args["epsilon"])
        changed[key] = before.parameters[key] + ratio * (value - before.parameters[key])
    return changed


def _slots(slot: str, change: Callable[[Array, Array], Array]) -> Plant:
    """What is kept in one slot: (before, after) -> after."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        def on_update(before: Snapshot, after: Snapshot) -> Snapshot:
            kept = {
                key: change(before.optimizer[key], value) if key.startswith(f"{slot}/") else value
                for key, value in after.optimizer.items()
            }
            return dataclasses.replace(after, optimizer=kept)

        return Intervention(on_update=on_update)

    return plant


def _schedule(by: int) -> Plant:
    """A schedule that is ahead or late, with everything else as it is."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        factor = problem.schedule.args["factor"]
        if problem.schedule.name == "exponential":
            return _factor("learning_rate", lambda rng: float(factor**by))(problem, rng)
        every = problem.schedule.args["steps"]
        turns = range(every, problem.steps + every, every)
        moved = Schedule(
            "piecewise", boundaries=[turn - by for turn in turns], factors=[factor for _ in turns]
        )
        return Intervention(spec=problem.replace(schedule=moved))

    return plant


OPTIMIZERS = (
    Mutant(
        "the learning rate scaled",
        OPTIMIZER,
        ("seed", "adam", "momentum", "lion"),
        _factor("learning_rate", lambda rng: 1 + small(rng)),
        LEARNING_RATE,
    ),
    Mutant(
        "the learning rate in float32",
        OPTIMIZER,
        ("seed", "adam"),
        lambda p, rng: _optimizer(learning_rate=float(np.float32(p.optimizer.args["learning_rate"])))(p, rng),
        SINGLE_PRECISION,
    ),
    Mutant(
        "the momentum scaled",
        OPTIMIZER,
        ("momentum", "nesterov", "dampening"),
        _factor("momentum", lambda rng: 1 - abs(small(rng))),
    ),
    Mutant("plain momentum for Nesterov's", OPTIMIZER, ("nesterov",), _flipped("nesterov"), NESTEROV),
    Mutant("Nesterov's momentum for plain", OPTIMIZER, ("momentum",), _flipped("nesterov"), NESTEROV),
    Mutant("no dampening", OPTIMIZER, ("dampening",), _optimizer(dampening=0.0), DAMPENING),
    Mutant("the first buffer damped", OPTIMIZER, ("dampening",), _flipped("first_damped")),
    Mutant(
        "coupled decay for decoupled",
        OPTIMIZER,
        ("adam-decoupled", "decoupled-momentum"),
        _flipped("decoupled"),
        WEIGHT_DECAY,
    ),
    Mutant(
        "decoupled decay for coupled",
        OPTIMIZER,
        ("adam-coupled", "weight-decay"),
        _flipped("decoupled"),
        WEIGHT_DECAY,
    ),
    Mutant(
        "no weight decay",
        OPTIMIZER,
        ("adam-coupled", "weight-decay", "adamw"),
        _optimizer(weight_decay=0.0),
        WEIGHT_DECAY,
    ),
    Mutant(
        "another beta1",
        OPTIMIZER,
        ("adam", "adamax", "nadam"),
        _factor("beta1", lambda rng: 1 - abs(small(rng))),
    ),
    Mutant(
        "another beta2",
        OPTIMIZER,
        ("adam", "radam", "probe-spike"),
        _factor("beta2", lambda rng: 1 - abs(small(rng))),
    ),
    Mutant(
        "epsilon inside the root",
        OPTIMIZER,
        ("adagrad", "rmsprop", "probe-small-rmsprop"),
        _flipped("epsilon_inside"),
        EPSILON_PLACE,
    ),
    Mutant(
        "another size of epsilon",
        OPTIMIZER,
        ("adam", "probe-small"),
        _optimizer(epsilon=1e-7),
        EPSILON_SIZE,
    ),
    Mutant(
        "no bias correction", OPTIMIZER, ("adam", "probe-small"), _after_update(_uncorrected), BIAS_CORRECTION
    ),
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
        _slots("momentum", lambda before, after: single(after)),
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
        SCHEDULE,
    ),
    Mutant(
        "the schedule a step late",
        OPTIMIZER,
        ("schedule-step", "schedule-exponential"),
        _schedule(-1),
        SCHEDULE,
    ),
    Mutant(
        "no schedule",
        OPTIMIZER,
        ("schedule-step", "schedule-cosine", "schedule-exponential"),
        program(lambda p: p.replace(schedule=CONSTANT)),
        SCHEDULE,
    ),
)

UPDATES = (
    Mutant(
        "a parameter never updated",
        UPDATE,
        ("adam", "momentum"),
        _after_update(
            lambda before, after, p, name, size: {**after.parameters, name: before.parameters[name]}
        ),
        NEVER_UPDATED,
    ),
    Mutant(
        "updates of biases doubled",
        UPDATE,
        ("adam", "momentum"),
        _after_update(
            lambda before, after, p, name, size: _moved(
                before, after, lambda key: 2.0 if key.endswith("/b") else 1.0
            )
        ),
        CONSTANT_RATIO,
    ),
    Mutant(
        "the updates of a parameter scaled",
        UPDATE,
        ("adam", "momentum"),
        _after_update(
            lambda before, after, p, name, size: _moved(
                before, after, lambda key: 1 + size if key == name else 1.0
            )
        ),
        CONSTANT_RATIO,
    ),
    Mutant(
        "parameters kept in float32",
        UPDATE,
        ("adam", "momentum", "minibatches"),
        _after_update(lambda before, after, p, name, size: each(single)(after.parameters)),
        SINGLE_PRECISION,
    ),
)
