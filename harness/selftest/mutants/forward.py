"""Bugs of the forward pass: layers, the parameters that they read, the loss, the running averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.backends.problem import Arrays, Layer, Loss, Penalty, Problem
from lockstep.harness.explanations import (
    HALF_SQUARES,
    PENALTY,
    REDUCTION,
    REPORTED_LOSS,
    RUNNING_AVERAGE,
)
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest.mutants.mutant import (
    BUFFERS,
    FORWARD,
    LOSS,
    Mutant,
    Plant,
    Rng,
    each,
    leaf,
    program,
    single,
    small,
)


def _layers(op: str, **changes: Any) -> Plant:
    """Every layer of one kind, in branches too, with other arguments."""

    def altered(layer: Layer) -> Layer:
        branches = [[altered(one) for one in branch] for branch in layer.branches]
        args = {**layer.args, **(changes if layer.name == op else {})}
        return Layer(layer.name, branches=branches, **args)

    return program(lambda problem: problem.replace(model=tuple(altered(layer) for layer in problem.model)))


def _swapped(op: str, other: str) -> Plant:
    """One function without parameters for another."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        model = tuple(Layer(other) if layer.name == op else layer for layer in problem.model)
        initial = {name.replace(f".{op}/", f".{other}/"): value for name, value in problem.initial.items()}
        return Intervention(spec=problem.replace(model=model, initial=initial))

    return plant


def _read_as(change: Callable[[Problem, Rng], Callable[[Arrays], Arrays]]) -> Plant:
    """Other parameters for the forward pass."""
    return lambda problem, rng: Intervention(on_forward=change(problem, rng))


def _off_by(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    name, factor = leaf(problem.parameter_shapes, rng), 1 + small(rng)
    return lambda parameters: {**parameters, name: parameters[name] * factor}


def _no_bias(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    return lambda parameters: {
        name: np.zeros_like(value) if name.endswith("/b") else value for name, value in parameters.items()
    }


def _rounded_weights(problem: Problem, rng: Rng) -> Callable[[Arrays], Arrays]:
    return each(single)


def _loss(name: str | None = None, **changes: Any) -> Plant:
    return program(
        lambda problem: problem.replace(
            loss=Loss(name or problem.loss.name, **{**problem.loss.args, **changes})
        )
    )


def _other_reduction(problem: Problem, rng: Rng) -> Intervention:
    other = {"sum": "mean", "mean": "sum"}[problem.loss.args["reduction"]]
    return _loss(reduction=other)(problem, rng)


def _reported(problem: Problem, rng: Rng) -> Intervention:
    factor = 1 + small(rng)
    return Intervention(on_loss=lambda loss: factor * loss)


def _penalties(change: Callable[[Penalty], list[Penalty]]) -> Plant:
    return program(
        lambda problem: problem.replace(
            penalties=tuple(new for one in problem.penalties for new in change(one))
        )
    )


FORWARD_PASS = (
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
    Mutant("biases left out", FORWARD, ("adam", "momentum"), _read_as(_no_bias)),
    Mutant("a parameter seen scaled", FORWARD, ("adam", "momentum", "nesterov"), _read_as(_off_by)),
    Mutant("parameters seen in float32", FORWARD, ("adam", "rmsprop"), _read_as(_rounded_weights)),
)

LOSSES = (
    Mutant("mean for sum, or sum for mean", LOSS, ("seed", "adam", "huber"), _other_reduction, REDUCTION),
    Mutant("half squares", LOSS, ("seed", "ridge"), _loss("half_squared_error"), HALF_SQUARES),
    Mutant("another delta in Huber's loss", LOSS, ("huber",), _loss(delta=1.5)),
    Mutant("another quantile", LOSS, ("quantile",), _loss(q=0.5)),
    Mutant(
        "squares for absolute errors",
        LOSS,
        ("huber",),
        program(lambda p: p.replace(loss=Loss("squared_error", reduction=p.loss.args["reduction"]))),
    ),
    Mutant("a loss reported scaled", LOSS, ("seed", "adam"), _reported, REPORTED_LOSS),
    Mutant(
        "a loss reported in float32",
        LOSS,
        ("seed", "adam"),
        lambda problem, rng: Intervention(on_loss=single),
    ),
    Mutant("the penalty left out", LOSS, ("lasso", "ridge-penalty"), _penalties(lambda one: []), PENALTY),
    Mutant("the penalty twice", LOSS, ("lasso", "ridge-penalty"), _penalties(lambda one: [one, one])),
    Mutant(
        "biases penalised too",
        LOSS,
        ("lasso", "ridge-penalty"),
        _penalties(lambda one: [Penalty(one.name, **{**one.args, "parameters": "all"})]),
        PENALTY,
    ),
)

AVERAGES = (
    Mutant(
        "another momentum of batch norm",
        BUFFERS,
        ("batch-norm",),
        _layers("batch_norm", momentum=0.01),
        RUNNING_AVERAGE,
    ),
    Mutant(
        "a biased running variance",
        BUFFERS,
        ("batch-norm",),
        _layers("batch_norm", unbiased=False),
        RUNNING_AVERAGE,
    ),
)
