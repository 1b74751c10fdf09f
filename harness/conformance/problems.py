"""The problems on which backends are checked: small, and each with something of its own to get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

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
from lockstep.harness.problems.families.seed import seed
from lockstep.harness.problems.initial import draw
from lockstep.harness.problems.square import square


def minibatches() -> Problem:
    """Shuffled batches, the last of them short."""
    return square(name="minibatches", batching=Batching(size=5, shuffle=3))


def modes() -> Problem:
    """Buffers, a mask and a branch: a dot, batch norm beside dropout, a linear layer."""
    rng = np.random.default_rng(8)
    branches = [[Layer("batch_norm")], [Layer("dropout", rate=0.3)]]
    model = (Layer("dot", size=3), Layer("parallel", branches=branches), Layer("linear", size=2))
    x, y = rng.standard_normal((2, 12, 3))
    initial = draw(model, (3,), 9)
    return square(name="modes", x=x, y=y[:, :2], model=model, initial=initial, batching=Batching(size=5))


def surrounded() -> Problem:
    """All that can stand around the optimizer: 18 batches, four an update, of which two are left over."""
    return square(
        name="surrounded",
        optimizer=Optimizer("adam", learning_rate=0.05),
        batching=Batching(size=5, shuffle=3),
        penalties=(Penalty("l1", weight=0.1), Penalty("l2", weight=0.2, parameters="all")),
        accumulation=4,
        average=Average("ema", decay=0.7, debias=True),
    )


def _clipped(name: str, limit: float, accumulation: int) -> Callable[[], Problem]:
    return lambda: square(
        name=f"clipped by {name}" + (", accumulated" if accumulation > 1 else ""),
        clip=Clip(name, limit=limit),
        batching=Batching(size=3),
        accumulation=accumulation,
    )


def _seed_with(name: str, part: Mapping[str, Any]) -> Problem:
    return seed().replace(name=f"seed, {name}", **part)


PARTS: Mapping[str, Mapping[str, Any]] = {
    "penalised": {"penalties": (Penalty("l2", weight=0.2),)},
    "averaged": {"average": Average("ema", decay=0.7)},
    "scheduled": {"schedule": Schedule("exponential", factor=0.8)},
    "momentum": {"optimizer": Optimizer("sgd", learning_rate=0.002, momentum=0.9, nesterov=True)},
    "decayed": {"optimizer": Optimizer("adamw", learning_rate=0.02, weight_decay=0.1)},
}
"""One part each, for a backend that has not all of them: what it ignores instead of refusing shows here."""

ALONE: Mapping[str, Mapping[str, Any]] = {
    **PARTS,
    "averaged over": {"loss": Loss("squared_error", reduction="mean")},
    "dealt": {"batching": Batching(size=7, shuffle=3)},
    "accumulated": {"batching": Batching(size=10), "accumulation": 2},
    "clipped": {"clip": Clip("norm", limit=0.5)},
}
"""The same and more of one layer alone: a backend that knows no more trains none of the others."""

PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "seed": seed,
    "square": square,
    "minibatches": minibatches,
    "modes": modes,
    "surrounded": surrounded,
    "clipped by norm": _clipped("norm", 0.5, 1),
    "clipped by value": _clipped("value", 0.1, 1),
    "clipped by norm, accumulated": _clipped("norm", 0.5, 2),
    "clipped by value, accumulated": _clipped("value", 0.1, 2),
    **{name: partial(square, name=name, **part) for name, part in PARTS.items()},
    **{f"seed, {name}": partial(_seed_with, name, part) for name, part in ALONE.items()},
}
"""All of them by name."""

ROUND = ("seed", "square", "minibatches", "modes", "surrounded")
"""Those on which every rule is checked."""

CLIPPED = tuple(name for name in PROBLEMS if name.startswith("clipped"))

SQUARED = ("square",)
"""The one whose formulas are simple enough to be written out."""

ONCE: tuple[str, ...] = ()
"""A rule that is not about a problem."""

ALL = tuple(PROBLEMS)
