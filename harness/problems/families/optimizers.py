"""One problem for each optimizer and each of its variants: a small tanh network, 100 steps of the whole batch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw

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
    "dampening-first": (
        "sgd",
        {"momentum": 0.9, "dampening": 0.5, "first_damped": True},
        "optax.ema damps the first buffer too",
    ),
    "decoupled-momentum": (
        "sgd",
        {"momentum": 0.9, "weight_decay": 0.1, "decoupled": True},
        "decoupled decay goes past the momentum; torch's SGD has none of its own",
    ),
    "adagrad-inside": (
        "adagrad",
        {"preset": "optax"},
        "Adagrad with optax' defaults: epsilon inside the root",
    ),
    "adagrad-decoupled": (
        "adagrad",
        {"weight_decay": 0.1, "decoupled": True},
        "decay must not enter the sum of squares",
    ),
    "rmsprop-inside": (
        "rmsprop",
        {"preset": "optax", "learning_rate": 1e-3},
        "RMSprop with optax' defaults: epsilon inside the root",
    ),
    "rmsprop-trace": (
        "rmsprop",
        {"momentum": 0.9, "rate_in_trace": True, "learning_rate": 1e-3},
        "optax' alias sums steps that are already scaled by the rate",
    ),
    "adam-root": ("adam", {"epsilon_root": 1e-4}, "a second epsilon, inside the root: optax' eps_root"),
    "adam-decoupled": (
        "adam",
        {"weight_decay": 0.1, "decoupled": True},
        "AdamW by another way, which must be the same way",
    ),
    "amsgrad-corrected": (
        "adam",
        {"amsgrad": True, "amsgrad_corrected": True},
        "AMSGrad: the maximum after the bias correction, as optax",
    ),
    "adamw-root": ("adamw", {"epsilon_root": 1e-4}, "AdamW with an epsilon inside the root"),
    "nadam": ("nadam", {"preset": "torch"}, "NAdam: the momentum's product is a state of its own in torch"),
    "nadam-constant": ("nadam", {"preset": "optax"}, "NAdam with optax' constant momentum"),
    "nadam-decoupled": ("nadam", {"preset": "torch", "weight_decay": 0.1, "decoupled": True}, "NAdamW"),
    "radam": ("radam", {}, "RAdam: rectified from update 6 on, epsilon on the raw root"),
    "radam-corrected": ("radam", {"preset": "optax"}, "RAdam: epsilon on the corrected root, as optax"),
    "radam-threshold": (
        "radam",
        {"threshold": 10.0, "epsilon": 1e-3},
        "RAdam that rectifies later, with an epsilon that shows where it stands",
    ),
    "rprop": ("rprop", {}, "Rprop: only signs of gradients, a kink at every zero crossing"),
    "rprop-stale": ("rprop", {"preset": "optax"}, "Rprop as optax: each step is taken one update late"),
    "adafactor": (
        "adafactor",
        {"preset": "torch"},
        "Adafactor: factored state of other shapes, epsilon as a floor",
    ),
    "adafactor-unfactored": (
        "adafactor",
        {"preset": "optax"},
        "Adafactor as optax: small matrices are not factored, nothing bounds the rate",
    ),
    "adafactor-mixed": (
        "adafactor",
        {"preset": "optax", "factored_from": 2, "epsilon": 1e-3, "weight_decay": 0.1},
        "Adafactor that factors the one matrix and not the other, with an epsilon that matters",
    ),
    "adafactor-floor": (
        "adafactor",
        {"preset": "torch", "factored_from": 2, "epsilon": 0.1, "clip": 2.0},
        "Adafactor whose floor is reached",
    ),
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
