"""Random clean problems: random combinations of the catalogue's members, none of which may alarm."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from lockstep.backends.errors import ProblemError
from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import (
    Average,
    Batching,
    Clip,
    Layer,
    Loss,
    Optimizer,
    Penalty,
    Problem,
    Schedule,
)
from lockstep.harness.problems.initial import draw

Rng = np.random.Generator

ACTIVATIONS = (
    *("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "softplus", "log_sigmoid"),
    *("abs", "square", "layer_norm", "rms_norm"),
)
LOSSES = (
    "squared_error",
    "half_squared_error",
    "absolute_error",
    "huber",
    "smooth_l1",
    "log_cosh",
    "quantile",
)
SCHEDULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant", {}),
    ("step", {"steps": 5, "factor": 0.5}),
    ("exponential", {"factor": 0.97}),
    ("piecewise", {"boundaries": [3, 11], "factors": [0.5, 2.0]}),
    ("polynomial", {"steps": 40, "power": 2.0}),
    ("cosine", {"steps": 30}),
    ("warmup_cosine", {"warmup": 4, "steps": 40}),
)


def clean(seed: int) -> Problem:
    """The random problem of a seed, in float64 or float32."""
    rng = np.random.default_rng(seed)
    while True:
        with suppress(ProblemError):  # some members do not go together: draw again
            return _drawn(rng, seed)


def _drawn(rng: Rng, seed: int) -> Problem:
    rows, features, outputs = int(rng.integers(4, 65)), int(rng.integers(1, 9)), int(rng.integers(1, 4))
    x = rng.standard_normal((rows, features)) * 10 ** rng.uniform(-1, 1)
    y = rng.standard_normal((rows, outputs)) * 10 ** rng.uniform(-1, 1)
    model = _model(rng, outputs)
    return Problem(
        name=f"clean-{seed}",
        x=x,
        y=y,
        model=model,
        loss=Loss(str(rng.choice(LOSSES)), reduction="mean"),
        optimizer=_optimizer(rng),
        epochs=int(rng.integers(1, 41)),
        initial=draw(model, (features,), seed=seed),
        dtype=str(rng.choice(("float64", "float32"))),
        batching=_batching(rng, rows),
        schedule=_schedule(rng),
        clip=Clip("norm", limit=float(10 ** rng.uniform(-1, 1))) if rng.random() < 0.2 else Clip("none"),
        penalties=(Penalty("l2", weight=0.01),) if rng.random() < 0.2 else (),
        accumulation=int(rng.integers(2, 4)) if rng.random() < 0.15 else 1,
        average=Average("ema", decay=0.9) if rng.random() < 0.15 else Average("none"),
    )


def _model(rng: Rng, outputs: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for _ in range(int(rng.integers(0, 3))):
        layers += [Layer("linear", size=int(rng.integers(1, 17))), Layer(str(rng.choice(ACTIVATIONS)))]
    return (*layers, Layer("linear", size=outputs))


def _optimizer(rng: Rng) -> Optimizer:
    name = str(rng.choice(sorted(OPTIMIZERS)))
    presets = [None, *OPTIMIZERS[name].presets]
    preset = presets[int(rng.integers(len(presets)))]
    args: dict[str, Any] = {"learning_rate": float(10 ** rng.uniform(-4, -1.5))}
    if name in ("sgd", "rmsprop") and rng.random() < 0.5:
        args["momentum"] = float(rng.uniform(0.5, 0.95))
    if "weight_decay" in OPTIMIZERS[name].arguments and rng.random() < 0.3:
        args["weight_decay"] = float(10 ** rng.uniform(-4, -1))
    return Optimizer(name, preset=preset, **args)


def _schedule(rng: Rng) -> Schedule:
    name, args = SCHEDULES[int(rng.integers(len(SCHEDULES)))]
    return Schedule(name, **args)


def _batching(rng: Rng, rows: int) -> Batching:
    if rng.random() < 0.5:
        return Batching()
    size = int(rng.integers(2, max(3, rows // 2 + 1)))
    return Batching(size=size, shuffle=int(rng.integers(100)), keep_last=bool(rng.random() < 0.7))
