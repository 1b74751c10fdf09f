"""The courses of gradients that optimizers are driven over: open loops, so that no rounding comes back through a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array, Arrays

Shapes = Mapping[str, tuple[int, ...]]
"""Of parameters, by name."""

SHAPES: Shapes = {"matrix": (4, 3), "scalar": (), "vector": (5,)}
"""The parameters that are updated, unless others are asked for."""

TINY, HUGE, SPIKE = 1e-12, 1e15, 1e4
"""Far below every epsilon; so large that its square, times a thousand, is still a float32; large beside its neighbours."""

FEW = 12
"""Updates of a course that has one thing to show."""


@dataclass(frozen=True)
class Course:
    """What both sides are given.

    Attributes:
        start: parameters before the first update, by name.
        gradients: one array of them for each update.
    """

    start: Arrays
    gradients: tuple[Arrays, ...]

    @property
    def moves(self) -> bool:
        """Whether some gradient is not zero, so that an optimizer has something to do."""
        return any(value.any() for grads in self.gradients for value in grads.values())

    def astype(self, dtype: str) -> Course:
        """In another dtype."""
        return Course(_cast(self.start, dtype), tuple(_cast(grads, dtype) for grads in self.gradients))


Make = Callable[[Shapes, int], Course]
"""(shapes of the parameters, how many updates are asked for) -> a course."""


def first(shapes: Shapes, updates: int) -> Course:
    """One update."""
    return _random(shapes, 1)


def many(shapes: Shapes, updates: int) -> Course:
    """As many as were asked for, each by another gradient."""
    return _random(shapes, updates)


def constant(shapes: Shapes, updates: int) -> Course:
    """The same gradient again and again."""
    course = _random(shapes, 1)
    return Course(course.start, course.gradients * updates)


def zero(shapes: Shapes, updates: int) -> Course:
    """No gradient at all: 0/0, and decay alone."""
    return _scaled(_random(shapes, FEW), [0.0] * FEW)


def stopping(shapes: Shapes, updates: int) -> Course:
    """Three gradients, then none: what is remembered goes on."""
    return _scaled(_random(shapes, FEW), [1.0] * 3 + [0.0] * (FEW - 3))


def tiny(shapes: Shapes, updates: int) -> Course:
    """Gradients far below epsilon, from zeros: the parameters are then as fine as the updates."""
    return _from_zeros(_scaled(_random(shapes, FEW), [TINY] * FEW))


def huge(shapes: Shapes, updates: int) -> Course:
    """Gradients near to where squares overflow."""
    return _from_zeros(_scaled(_random(shapes, FEW), [HUGE] * FEW))


def spike(shapes: Shapes, updates: int) -> Course:
    """One gradient far larger than those before and after it."""
    return _scaled(_random(shapes, 2 * FEW), [1.0] * 4 + [SPIKE] + [1.0] * (2 * FEW - 5))


def sparse(shapes: Shapes, updates: int) -> Course:
    """Every second element has a gradient at one update in three, the others never."""
    course = _random(shapes, FEW)
    gradients = tuple(
        {name: value * _even(value) * (step % 3 == 2) for name, value in grads.items()}
        for step, grads in enumerate(course.gradients)
    )
    return Course(course.start, gradients)


def turning(shapes: Shapes, updates: int) -> Course:
    """Gradients that change their sign twice in three updates."""
    course = _random(shapes, 1)
    signs = [(1.0, -1.0, -1.0)[step % 3] for step in range(FEW)]
    return _scaled(Course(course.start, course.gradients * FEW), signs)


def _random(shapes: Shapes, updates: int) -> Course:
    """Normal numbers, for everyone the same; a longer course begins with a shorter one."""
    rng = np.random.default_rng(20)
    start, *gradients = (
        {name: np.asarray(rng.standard_normal(shape)) for name, shape in sorted(shapes.items())}
        for _ in range(updates + 1)
    )
    return Course(start, tuple(gradients))


def _scaled(course: Course, factors: list[float]) -> Course:
    gradients = tuple(
        {name: factor * value for name, value in grads.items()}
        for factor, grads in zip(factors, course.gradients, strict=True)
    )
    return Course(course.start, gradients)


def _from_zeros(course: Course) -> Course:
    return Course({name: np.zeros_like(value) for name, value in course.start.items()}, course.gradients)


def _even(value: Array) -> Array:
    """1 at every second element, from the first, 0 elsewhere."""
    even: Array = (np.arange(value.size) % 2 == 0).reshape(value.shape).astype(value.dtype)
    return even


def _cast(arrays: Arrays, dtype: str) -> Arrays:
    return {name: value.astype(dtype) for name, value in arrays.items()}
