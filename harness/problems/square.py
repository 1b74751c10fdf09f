"""A small problem on which much can go wrong: what backends and optimizers are checked on."""

from __future__ import annotations

from typing import Any

import numpy as np

from lockstep.backends.problem import Layer, Loss, Optimizer, Problem


def square(**changes: Any) -> Problem:
    """Two layers, the first with a square weight, which a transposed copy would fit without complaint."""
    rng = np.random.default_rng(7)
    fields = {
        "name": "square",
        "x": rng.standard_normal((12, 3)),
        "y": rng.standard_normal((12, 2)),
        "model": (Layer("linear", size=3), Layer("dot", size=2), Layer("add")),
        "loss": Loss("squared_error", reduction="mean"),
        "optimizer": Optimizer("sgd", learning_rate=0.05),
        "epochs": 6,
        "initial": {
            "0.linear/w": rng.standard_normal((3, 3)),
            "0.linear/b": rng.standard_normal(3),
            "1.dot/w": rng.standard_normal((3, 2)),
            "2.add/b": rng.standard_normal(2),
        },
    }
    return Problem(**{**fields, **changes})
