"""The rounding budget: the largest distance that rounding causes between two right implementations of this very problem.

The reference is trained again by twins whose every operation is disturbed within the rounding of the dtype. The spread of
a quantity is the root mean square of the twins' deviations from the undisturbed run: it holds their variance and, where
rounding is biased (stagnation), their common drift from it. A distance of more than MULTIPLE spreads is not rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from lockstep import backends
from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Disturbable, Trainer
from lockstep.harness.core.compare import LOSS, STATE, Run, final
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import FIXED, Tolerance, scaled
from lockstep.harness.numerics.twins import step_twin
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.stages import coarsest

MULTIPLE = 32.0
"""How many spreads are a disagreement.

Measured over the catalogue, three backends pairwise in both dtypes: at most 3.8 spreads, but for Optax' RAdam in float32,
whose spread has a heavy tail and which once was at 9.8. In 120 random clean runs
right implementations came to 4.6. The rest, up to 32, allows for the tails of runs that were not tried.
"""

UNINFORMATIVE = 0.01
"""A limit of more than this share of the scale would let every visible difference pass: nothing is decided there."""

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
        smallest: the scale below which a leaf is negligible.
        twins: how many runs it was measured with.
        seconds: how long that took.
        floor: the tolerance that passes in any case, where the budget was not measured by disturbing every operation.
        rtol, atol, scaled, kind, source: as of a `Tolerance`.
    """

    spreads: Mapping[str, Array]
    smallest: float
    twins: int
    seconds: float
    floor: Tolerance | None = None
    rtol: float = 0.0
    atol: float = 0.0
    scaled: bool = True
    kind: str = "budget"

    @property
    def source(self) -> str:
        """A description in words."""
        if self.floor is None:
            return f"budget: {MULTIPLE:g} spreads of {self.twins} disturbed twins"
        return f"measured: {MULTIPLE:g} spreads of {self.twins} disturbed twins of each side, at least {self.floor.rtol:g}"

    def scale(self, left: Array, is_loss: bool) -> Array:
        """As of a scaled `Tolerance`."""
        return scaled(left, is_loss)

    def limit(self, quantity: str, scale: Array) -> Array:
        """The largest distance that rounding explains; for a shorter run the limits of its first steps."""
        spread = self.spreads.get(quantity, np.zeros(()))
        spread = spread[: len(scale)] if spread.ndim else spread
        limit: Array = MULTIPLE * np.broadcast_to(spread, scale.shape)
        return limit if self.floor is None else np.maximum(self.floor.limit(quantity, scale), limit)

    def uninformative(self, quantity: str, scale: Array) -> Array:
        """Where the limit is so wide that no difference would be detected."""
        uninformative: Array = self.limit(quantity, scale) > UNINFORMATIVE * np.maximum(scale, self.smallest)
        return uninformative


def twins_for(problem: Problem) -> int:
    """How many twins the problem's size allows: all up to 6,144 numbers, the fewest from 49,152 on."""
    rows = problem.batching.size or len(problem.x)
    widest = max(
        [math.prod(layer.output_shape) for layer in problem.layers] + [math.prod(problem.x.shape[1:])]
    )
    parameters = sum(math.prod(shape) for shape in problem.parameter_shapes.values())
    numbers = max(rows * widest, parameters)
    return max(FEWEST_TWINS, min(MOST_TWINS, NUMBERS // numbers))


Notify = Callable[[str], None]
"""Receives a sentence before a long computation."""

LONG = 10.0
"""A computation of more seconds is announced beforehand."""

COST = 150.0
"""The highest cost of all twins in plain runs, to know when a forecast is worth an epoch."""


def no_op(words: str) -> None:
    """Notifies nobody."""


def measure(
    problem: Problem,
    twins: int | None = None,
    seed: int = 0,
    notify: Notify = no_op,
    steps: int | None = None,
) -> Budget | None:
    """The budget of a problem in its dtype; None where the reference cannot train it.

    Args:
        problem: in its dtype.
        twins: how many; by default as many as its size allows.
        seed: of the disturbances.
        notify: is called with how long it will take where that is long.
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
            _forecast(problem, trainer, twins, notify)
        evaluation = None
        if problem.has_modes:
            evaluation = trainer.predict(trainer.write(trainer.init(), plain.final), batches.x)
        disturbed = trainer.disturbed(batches, twins, seed)
        run = Run(problem.name, problem.dtype, reference.name, trace=plain, evaluation=evaluation)
        twin_run = Run(
            problem.name,
            problem.dtype,
            reference.name,
            trace=disturbed.trace,
            evaluation=disturbed.evaluation,
        )
        ends, twin_ends = final(problem, run), final(problem, twin_run)
        spreads = {name: np.max(deviation(twin_ends[name], ends[name]), initial=0.0) for name in ends}
        losses = deviation(disturbed.trace.losses, plain.losses)
    largest = max(float(np.abs(value).max(initial=0.0)) for value in plain.final.parameters.values())
    floor = NEGLIGIBLE[problem.dtype] * largest
    return Budget({LOSS: losses, **spreads}, floor, twins, time.perf_counter() - started)


TWINS = 8
"""Input twins of each side. A scalar's spread is by chance 32 times too small in all eight less than once in 10¹¹."""


def measure_by_inputs(spec: RunSpec, implementations: Iterable[Implementation]) -> Budget:
    """The budget where there are no operation twins: from input twins of every implementation, at least the fixed tolerance.

    Args:
        spec: in its dtype.
        implementations: who trains it; the spread of a quantity is the largest of theirs.
    """
    started = time.perf_counter()
    implementations = list(implementations)
    eps = _eps(spec, implementations)
    spreads: dict[str, Array] = {}
    largest = 0.0
    with np.errstate(all="ignore"):  # twins that diverge are judged by their numbers
        for one in implementations:
            own, magnitude = _spreads(spec, one, eps)
            spreads = {name: np.maximum(spreads.get(name, 0.0), value) for name, value in own.items()}
            largest = largest or magnitude
    seconds = time.perf_counter() - started
    return Budget(spreads, NEGLIGIBLE[spec.dtype] * largest, TWINS, seconds, FIXED[spec.dtype])


def _eps(spec: RunSpec, implementations: Iterable[Implementation]) -> float:
    """Of the dtype of the parameters, or where modules of all sides compute in half precision of that."""
    batch = next(iter(spec.batches()))
    coarse = min((_coarsest(one.trainer(spec), batch) for one in implementations), default=0.0)
    return coarse or float(np.finfo(spec.dtype).eps)


def _coarsest(trainer: Trainer, batch: Batch) -> float:
    try:
        trainer.observe(trainer.init(), batch, ("forward",))
    except Exception:  # a user's code that trains, and cannot be observed
        return 0.0
    return coarsest(trainer)


def _spreads(spec: RunSpec, implementation: Implementation, eps: float) -> tuple[dict[str, Array], float]:
    """The spread of each quantity (the largest so far of a loss, the largest in a leaf), and the largest initial parameter."""
    trainer = implementation.trainer(spec)
    start = trainer.read(trainer.init()).parameters
    run = partial(_ends, spec)
    # By its halves, as the twins take a step: what only its undivided step does must not widen the limit.
    plain = run(Altered(implementation.trainer(spec), Intervention()))
    spreads = twin_spreads(run, partial(implementation.trainer, spec), plain, eps)
    widest = {
        name: np.maximum.accumulate(value) if name == LOSS else np.max(value, initial=0.0)
        for name, value in spreads.items()
    }
    return widest, max(float(np.abs(value).max(initial=0.0)) for value in start.values())


def twin_spreads(
    run: Callable[[Trainer], Arrays], trainer: Callable[[], Trainer], plain: Arrays, eps: float
) -> dict[str, Array]:
    """The spread of input twins around the plain run, by quantity, of its shape.

    Args:
        run: trains, and returns the quantities of the run.
        trainer: a fresh trainer at each call.
        plain: the quantities of the undisturbed run.
        eps: of the rounding.
    """
    twins = [run(Altered(trainer(), step_twin(seed, eps))) for seed in range(TWINS)]
    return {name: deviation(np.stack([one[name] for one in twins]), value) for name, value in plain.items()}


def _ends(spec: RunSpec, trainer: Trainer) -> dict[str, Array]:
    """The losses and the final state of a run, in double."""
    trace = StepByStep(trainer).fit(trainer.init(), spec.batches(), LOSSES_ONLY)
    return {
        LOSS: trace.losses.astype(np.float64),
        **{name: value.astype(np.float64) for name, value in trace.final.parameters.items()},
        **{name: value.astype(np.float64) for name, value in trace.final.buffers.items()},
        **{f"{STATE}/{name}": value.astype(np.float64) for name, value in trace.final.optimizer.items()},
    }


@dataclass(frozen=True)
class _Beginning(Batches):
    """The first steps of a run, for who trains step by step."""

    steps: int = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(super().__iter__(), self.steps)


def _forecast(problem: Problem, trainer: Disturbable, twins: int, notify: Notify) -> None:
    """Announce how long the twins' run will take, measured on one epoch of all or of one of them, where that is long."""
    tried = twins if problem.epochs > 20 else 1
    started = time.perf_counter()
    trainer.disturbed(dataclasses.replace(problem.batches(), epochs=1), tried, 0)
    seconds = (time.perf_counter() - started) * problem.epochs * twins / tried
    if seconds > LONG:
        notify(
            f"{problem.name} {problem.dtype}: measuring the rounding budget with {twins} twins, about {seconds:.0f} s"
        )


def deviation(twins: Array, plain: Array) -> Array:
    """The root mean square over the twins' axis of their distance from `plain`; infinite where one is not finite."""
    distance = twins - plain.astype(np.float64)
    spread = np.sqrt(np.mean(distance * distance, axis=0))
    return np.where(np.isfinite(spread), spread, np.inf)
