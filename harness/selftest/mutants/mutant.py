"""A planted port bug: what ported training code gets wrong, and the stages at which it must be observed first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.harness.explanations.explanation import (
    Explanation,
)
from lockstep.harness.runs.intervention import Intervention

Rng = np.random.Generator

Plant = Callable[[Problem, Rng], Intervention]
"""(problem, generator of its site and magnitude) -> the intervention that makes the reference make the mistake."""

BATCH = frozenset({"batch"})
START = frozenset({"initial"})
FORWARD = frozenset({"forward"})
LOSS = frozenset({"loss"})
GRADIENT = frozenset({"gradient"})
CLIPPED = frozenset({"clipped"})
OPTIMIZER = frozenset({"accumulator", "optimizer", "update"})
UPDATE = frozenset({"update", "parameters"})
BUFFERS = frozenset({"buffers"})
CARRIED = frozenset({"fit", "continued", "free", "state"})
HIDDEN = CARRIED | {"step"}
"""State that no snapshot holds: it shows where a step differs from the composition of its halves."""


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what it does.
        stages: the kinds of stage one of which must be named as the first to differ.
        problems: where it can show.
        plant: how it is planted.
        explanation: the one that must be confirmed, where the table has one.
    """

    name: str
    stages: frozenset[str]
    problems: tuple[str, ...]
    plant: Plant
    explanation: Explanation | None = None


def small(rng: Rng) -> float:
    """A relative change between 1e-8 and 1e-2, of either sign."""
    return float(rng.choice((-1, 1)) * 10 ** rng.uniform(-8, -2))


def leaf(names: Mapping[str, Any], rng: Rng) -> str:
    """One name."""
    return str(rng.choice(sorted(names)))


def single(values: Array) -> Array:
    """Rounded to float32."""
    return values.astype(np.float32).astype(values.dtype)


def each(change: Callable[[Array], Array]) -> Callable[[Arrays], dict[str, Array]]:
    """A change of every array."""
    return lambda arrays: {name: change(value) for name, value in arrays.items()}


zeros = each(np.zeros_like)


def program(change: Callable[[Problem], Problem]) -> Plant:
    """Another program over the same data."""
    return lambda problem, rng: Intervention(spec=change(problem))
