"""What the suites train: least squares by descent, from the notebook's thirty rows to what no cache holds."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Optimizer, Problem
from lockstep.harness.benchmark.cost import need_of
from lockstep.harness.problems import find


def seed(epochs: int) -> Problem:
    """The notebook's problem, for so many epochs."""
    return find("seed").replace(epochs=epochs)


def tall(rows: int, features: int, epochs: int) -> Problem:
    """y = xw + 1 with w = 1, 2, ..., in float32, the rate far below where descent diverges."""
    x = np.random.default_rng(0).random((rows, features)).astype("float32")
    w = np.arange(1.0, features + 1, dtype="float32")[:, None]
    return find("seed").replace(
        name="tall",
        x=x,
        y=x @ w + 1,
        epochs=epochs,
        dtype="float32",
        initial={"0.linear/w": np.zeros((features, 1)), "0.linear/b": np.zeros(1)},
        optimizer=Optimizer("sgd", learning_rate=0.3 / rows / features),
    )


def least(problem: Problem, runs: int = 1) -> dict[str, int]:
    """Bytes and flops that so many training runs need at least."""
    need = need_of(problem)
    return {"bytes": runs * need.bytes, "flops": runs * need.flops}


PROBLEMS = {
    "seed": lambda quick: seed(10),
    "seed, 1,000 epochs": lambda quick: seed(50 if quick else 1_000),
    "1e6 x 2": lambda quick: tall(10**3 if quick else 10**6, 2, 3 if quick else 20),
    "1e5 x 64": lambda quick: tall(10**3 if quick else 10**5, 64, 3 if quick else 20),
}
"""Makers by name; the quick form is as small as it can be and still be trained."""
