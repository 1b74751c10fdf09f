"""The rounding budget: how far apart rounding can drive two right implementations of this very problem.

The reference is trained again by twins whose every operation is disturbed within the rounding of the dtype. The spread of
a quantity is the root mean square of the twins' deviations from the undisturbed run: it holds their variance and, where
rounding is biased (stagnation), their common drift from it. A distance of more than MULTIPLE spreads is not rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lockstep import backends
from lockstep.backends.problem import Array, Batch, Batches, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Disturbable
from lockstep.harness.core.compare import LOSS, Run, final
from lockstep.harness.core.tolerance import scaled
from lockstep.harness.runs.free_run import StepByStep

MULTIPLE = 32.0
"""How many spreads are a disagreement.

Measured over the catalogue, three backends pairwise in both dtypes: at most 3.8 spreads, but for Optax' RAdam in float32,
whose spread has a heavy tail and which once was at 9.8. In 120 random clean runs
right implementations came to 4.6. What is left up to 32 is room for the tails of runs that were not tried.
"""

BLIND = 0.01
"""A limit of more than this share of the scale would let anything visible pass: nothing is decided there."""

NEGLIGIBLE = {"float64": 1.5e-8, "float32": 3.5e-4}
"""√eps: a leaf smaller than this share of the largest parameter is judged on that scale, for it may be rounding alone."""

MOST_TWINS, FEWEST_TWINS = 32, 4
NUMBERS = 3 << 16
"""Twins times numbers at once: beyond, fewer twins are run, down to the fewest. So 1e4 numbers cost under 100 plain runs."""


@dataclass(frozen=True)
class Budget:
    """A tolerance that was measured on the problem.

    Attributes:
        spreads: by quantity: of losses (steps,), of everything else one number, the largest in the leaf.
        smallest: by quantity, the scale below which it is negligible.
        twins: how many runs it was measured with.
        seconds: what that took.
        rtol, atol, scaled, kind, source: as of a `Tolerance`.
    """

    spreads: Mapping[str, Array]
    smallest: Mapping[str, float]
    twins: int
    seconds: float
    rtol: float = 0.0
    atol: float = 0.0
    scaled: bool = True
    kind: str = "budget"

    @property
    def source(self) -> str:
        """What it is, in words."""
        return f"budget: {MULTIPLE:g} spreads of {self.twins} disturbed twins"

    def scale(self, left: Array, is_loss: bool) -> Array:
        """As of a scaled `Tolerance`."""
        return scaled(left, is_loss)

    def limit(self, quantity: str, scale: Array) -> Array:
        """The largest distance that rounding explains."""
        spread = self.spreads.get(quantity, np.zeros(()))
        limit: Array = MULTIPLE * np.broadcast_to(spread, scale.shape)
        return limit

    def blind(self, quantity: str, scale: Array) -> Array:
        """Where the limit is so wide that nothing would be caught."""
        blind: Array = self.limit(quantity, scale) > BLIND * np.maximum(
            scale, self.smallest.get(quantity, 0.0)
        )
        return blind


def twins_for(problem: Problem) -> int:
    """How many twins the problem's size allows: all up to 6,144 numbers, the fewest from 49,152 on."""
    rows = problem.batching.size or len(problem.x)
    widest = max(
        [math.prod(layer.output_shape) for layer in problem.layers] + [math.prod(problem.x.shape[1:])]
    )
    parameters = sum(math.prod(shape) for shape in problem.parameter_shapes.values())
    numbers = max(rows * widest, parameters)
    return max(FEWEST_TWINS, min(MOST_TWINS, NUMBERS // numbers))


Say = Callable[[str], None]
"""What is told a sentence while something takes long."""

LONG = 10.0
"""Seconds from which on it is said beforehand what something will take."""

COST = 150.0
"""What all twins together cost at most against the plain run, to know when a forecast is worth an epoch."""


def silent(words: str) -> None:
    """Tells nobody."""


def measure(
    problem: Problem,
    twins: int | None = None,
    seed: int = 0,
    say: Say = silent,
    steps: int | None = None,
) -> Budget | None:
    """The budget of a problem in its dtype; None where the reference cannot train it.

    Args:
        problem: in its dtype.
        twins: how many; by default what its size allows.
        seed: of the disturbances.
        say: is told how long it will take where that is long.
        steps: only so many, 1 or more; by default the whole run.
    """
    reference = backends.load(backends.REFERENCE)
    if reference.supports(problem) is not None:
        return None
    started = time.perf_counter()
    trainer: Disturbable = reference.trainer(problem)  # type: ignore[assignment]
    twins = twins or twins_for(problem)
    batches = problem.batches() if steps is None else _Beginning(**vars(problem.batches()), steps=steps)
    with np.errstate(all="ignore"):
        # The chain's own steps, as the twins take them: a fault of its `fit` must not widen the limit.
        plain = StepByStep(trainer).fit(trainer.init(), batches, LOSSES_ONLY)
        if steps is None and (time.perf_counter() - started) * COST > LONG:
            _forecast(problem, trainer, twins, say)
        evaluation = None
        if problem.has_modes:
            evaluation = trainer.predict(trainer.write(trainer.init(), plain.final), batches.x)
        found = trainer.disturbed(batches, twins, seed)
        run = Run(problem.name, problem.dtype, reference.name, trace=plain, evaluation=evaluation)
        twin_run = Run(
            problem.name, problem.dtype, reference.name, trace=found.trace, evaluation=found.evaluation
        )
        ends, twin_ends = final(problem, run), final(problem, twin_run)
        spreads = {name: np.max(deviation(twin_ends[name], ends[name]), initial=0.0) for name in ends}
        losses = deviation(found.trace.losses, plain.losses)
    largest = max(float(np.abs(value).max(initial=0.0)) for value in plain.final.parameters.values())
    floor = NEGLIGIBLE[problem.dtype] * largest
    return Budget({LOSS: losses, **spreads}, dict.fromkeys(ends, floor), twins, time.perf_counter() - started)


@dataclass(frozen=True)
class _Beginning(Batches):
    """The first steps of a run, for who trains step by step."""

    steps: int = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(super().__iter__(), self.steps)


def _forecast(problem: Problem, trainer: Disturbable, twins: int, say: Say) -> None:
    """Say what the twins' run will take, from one epoch of theirs, or of one of them, where that is long."""
    tried = twins if problem.epochs > 20 else 1
    started = time.perf_counter()
    trainer.disturbed(dataclasses.replace(problem.batches(), epochs=1), tried, 0)
    seconds = (time.perf_counter() - started) * problem.epochs * twins / tried
    if seconds > LONG:
        say(
            f"{problem.name} {problem.dtype}: measuring the rounding budget with {twins} twins, about {seconds:.0f} s"
        )


def deviation(twins: Array, plain: Array) -> Array:
    """The root mean square over the twins' axis of their distance from `plain`; infinite where one is not finite."""
    distance = twins - plain.astype(np.float64)
    spread = np.sqrt(np.mean(distance * distance, axis=0))
    return np.where(np.isfinite(spread), spread, np.inf)
