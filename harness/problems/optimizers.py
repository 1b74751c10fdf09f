"""One problem for each optimizer and each of its variants: a small tanh network, 100 steps of the whole batch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from backends.problem import Layer, Loss, Optimizer, Problem
from harness.initial import draw
from harness.problems import Entry

MODEL = (Layer("linear", size=8), Layer("tanh"), Layer("linear", size=1))


def network(name: str, optimizer: Optimizer) -> Problem:
    """Y = sin(2x¹) − x² from 20 examples by a network 2-8-1 with the mean squared error."""
    x = np.random.RandomState(1).uniform(-1, 1, (20, 2))
    y = np.sin(2 * x[:, :1]) - x[:, 1:]
    initial = draw(MODEL, (2,), seed=2)
    return Problem(name, x, y, MODEL, Loss("squared_error"), optimizer, 100, initial)


VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "momentum": ("sgd", {"momentum": 0.9}, "momentum: the buffer is carried from step to step"),
    "dampening": ("sgd", {"momentum": 0.9, "dampening": 0.5}, "dampening: torch's first buffer is undamped"),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, "Nesterov's look-ahead"),
    "weight-decay": (
        "sgd",
        {"momentum": 0.9, "weight_decay": 0.1},
        "coupled decay goes through the momentum",
    ),
    "adagrad": ("adagrad", {}, "Adagrad with torch's defaults: epsilon outside the root"),
    "adagrad-accumulator": (
        "adagrad",
        {"initial_accumulator": 0.1},
        "Adagrad with optax' initial accumulator",
    ),
    "adadelta": ("adadelta", {"learning_rate": 1.0}, "Adadelta: two averages, epsilon inside both roots"),
    "rmsprop": ("rmsprop", {}, "RMSprop with torch's defaults"),
    "rmsprop-centered": (
        "rmsprop",
        {"centered": True, "momentum": 0.9},
        "the variance is a cancelling difference",
    ),
    "adam": ("adam", {}, "Adam: bias corrections, which optax forms in float32"),
    "adam-coupled": ("adam", {"weight_decay": 0.1}, "Adam with decay coupled into the moments"),
    "amsgrad": ("adam", {"amsgrad": True}, "AMSGrad: the maximum before the bias correction, as torch"),
    "adamw": ("adamw", {}, "decoupled decay, scaled by the rate"),
    "adamax": ("adamax", {}, "Adam with the infinity norm"),
    "lion": (
        "lion",
        {"learning_rate": 1e-3, "weight_decay": 0.1},
        "sign updates: a kink at every zero crossing",
    ),
}


def _make(name: str) -> Problem:
    optimizer, args, _ = VARIANTS[name]
    return network(name, Optimizer(optimizer, **{"learning_rate": 1e-2, **args}))


PROBLEMS = {name: Entry(functools.partial(_make, name), reason) for name, (_, _, reason) in VARIANTS.items()}
