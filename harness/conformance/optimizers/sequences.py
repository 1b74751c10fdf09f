"""The gradient sequences that optimizers are driven over: the same for everyone, whatever the parameters become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.harness.adopt.task import Task

Shapes = Mapping[str, tuple[int, ...]]
"""Of parameters, by name."""

SHAPES: Shapes = {"matrix": (4, 3), "scalar": (), "vector": (5,)}
"""The parameters that are updated by default."""

FEW = 12
"""Updates of a sequence that has one thing to show."""


@dataclass(frozen=True)
class GradientSequence(Task):
    """A run of an optimizer alone: the x of each batch holds the gradients of that update, by parameter.

    Attributes:
        start: parameters before the first update, by name.
    """

    start: Arrays

    @property
    def gradients(self) -> tuple[Arrays, ...]:
        """Of every update."""
        return tuple(batch.x for batch in self.data)

    @property
    def moves(self) -> bool:
        """Whether some gradient is not zero, so that an optimizer has something to do."""
        return any(value.any() for grads in self.gradients for value in grads.values())


@dataclass(frozen=True)
class Pattern:
    """How the gradients of a sequence are made: normal numbers, the same for everyone, times a factor each.

    Attributes:
        name: what reports call the sequence.
        factors: of each update, of a long sequence of so many.
        same: whether all updates have the same gradient, but for its factor.
        from_zeros: whether the parameters start from zeros: they are then as fine as the updates.
        every_second: whether only every second element has a gradient.
    """

    name: str
    factors: Callable[[int], Sequence[float]]
    same: bool = False
    from_zeros: bool = False
    every_second: bool = False

    def sequence(self, shapes: Shapes, updates: int, dtype: str) -> GradientSequence:
        """For parameters of these shapes; a longer sequence begins with a shorter one."""
        factors, rng = self.factors(updates), np.random.default_rng(20)
        drawn = 1 if self.same else len(factors)
        start, *normal = (
            {name: np.asarray(rng.standard_normal(shape)) for name, shape in sorted(shapes.items())}
            for _ in range(1 + drawn)
        )
        gradients = [
            {name: self._masked(factor * value).astype(dtype) for name, value in normal[step % drawn].items()}
            for step, factor in enumerate(factors)
        ]
        scale = 0.0 if self.from_zeros else 1.0
        start = {name: np.asarray(scale * value, dtype) for name, value in start.items()}
        return GradientSequence(self.name, dtype, tuple(Batch(one, {}) for one in gradients), start)

    def _masked(self, value: Array) -> Array:
        """Every second element, from the first, where only those have a gradient."""
        even = (np.arange(np.size(value)) % 2 == 0).reshape(np.shape(value))
        return np.asarray(value * even if self.every_second else value)


FIRST = Pattern("first update", lambda updates: [1.0])
MANY = Pattern("many updates", lambda updates: [1.0] * updates)
CONSTANT = Pattern("constant gradients", lambda updates: [1.0] * updates, same=True)
ZERO = Pattern("zero gradients", lambda updates: [0.0] * FEW)
STOPPING = Pattern("gradients that stop", lambda updates: [1.0] * 3 + [0.0] * (FEW - 3))
TINY = Pattern("tiny gradients", lambda updates: [1e-12] * FEW, from_zeros=True)
"""Far below every epsilon."""
HUGE = Pattern("huge gradients", lambda updates: [1e15] * FEW, from_zeros=True)
"""So large that their square, times a thousand, is still a float32."""
SPIKE = Pattern("spike", lambda updates: [1.0] * 4 + [1e4] + [1.0] * (2 * FEW - 5))
"""One gradient far larger than those before and after it."""
SPARSE = Pattern("sparse gradients", lambda updates: [0.0, 0.0, 1.0] * (FEW // 3), every_second=True)
SIGN_CHANGES = Pattern("sign changes", lambda updates: [1.0, -1.0, -1.0] * (FEW // 3), same=True)
