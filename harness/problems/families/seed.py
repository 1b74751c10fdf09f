"""The seed: y = 2x¹ − 3x² + 1 from 30 examples, full-batch gradient descent on the summed squared error."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry


def _data(rounded: bool) -> tuple[Array, Array]:
    """X (30, 2) float32 values in [0, 1), y (30, 1); `rounded`: y too is rounded to float32, as in the seed."""
    x = np.random.RandomState(0).random((30, 2)).astype(np.float32)
    y = (np.dot(x, [2.0, -3.0]) + 1.0)[:, None]
    return x, y.astype(np.float32) if rounded else y


def _problem(name: str, rounded: bool) -> Problem:
    rng = np.random.RandomState(0)
    x, y = _data(rounded)
    return Problem(
        name=name,
        x=x,
        y=y,
        model=(Layer("linear", size=1),),
        loss=Loss("squared_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=1e-2),
        epochs=10,
        initial={"0.linear/w": rng.randn(2, 1), "0.linear/b": rng.randn(1)},
    )


def seed() -> Problem:
    """The notebook's problem, to the bit of its data and initial parameters."""
    return _problem("seed", rounded=True)


def seed_unrounded() -> Problem:
    """The same with y in float64: its least-squares solution is (2, −3, 1) up to rounding."""
    return _problem("seed-unrounded", rounded=False)


PROBLEMS = {
    "seed": Entry(seed, "the notebook that Lockstep began from; its printed loss table is the first test"),
    "seed-unrounded": Entry(
        seed_unrounded, "the seed with exact targets: training must recover (2, -3, 1) to rounding"
    ),
}
