"""The limits of the distance that rounding causes between the stages of a step and between two whole runs: all of them.

Where the reference can train the problem, its twins disturb every operation, the rounding of hyperparameters included: 1 − βᵗ formed
in float32 is within these limits, as it is within the budget of a free run. Where it cannot (a user's own code), the inputs of
a step or a run are disturbed. No limit is below UNITS eps of the quantity's scale: another order of summation is no difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np

from lockstep import backends
from lockstep.backends.adoption import leaves
from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import LOSSES_ONLY, Disturbable, DisturbedStep, Snapshot, Trainer
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.ledger import COARSE, UNDISTURBED
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.numerics.budget import MULTIPLE, deviation, twins_for
from lockstep.harness.numerics.twins import (
    UPDATE,
    disturbance,
    disturbed_batch,
    input_twin,
)
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.lockstep_run import StageLimits
from lockstep.harness.runs.stages import coarsest, fields, gradients, stages_of
from lockstep.harness.runs.trajectory import Trajectory, trajectory

UNITS = 45
"""The same as in `lockstep.harness.core.tolerance.FIXED`, measured there."""

TERMS = 16
"""Rows whose sum UNITS cover; the rounding of longer sums grows like their root (Higham, Mary, 2019)."""

SUMMED = frozenset({"loss", "gradient", "buffers", "step"})
"""Kinds of stage that come from sums over the rows of a batch."""

SAMPLES = 3
"""Disturbed copies. A scalar's spread is by chance 45 times too small in all three once in 10⁵."""

SEED = 0
"""The seed of the twins."""

CANCELLED = 16.0
"""Eps of the largest gradient of a step that any of its gradients may be off by, where no operation can be disturbed.

Measured: 7, of a perceptron whose tanh units are saturated after 30 steps of momentum, torch against XLA.
"""


WHOLE = frozenset({"optimizer", "update", "parameters"})
"""What a step that cannot be taken apart shows of its gradients and its update: kinds of stage that are off by what the gradients are off by."""

COMPUTED = frozenset({"forward", "loss", "cotangent", "gradient", "buffers", "step"})
"""Kinds of stage that come of what modules compute; an update is made of gradients that are the same for both sides."""

HALF = 8.0
"""Spreads of inputs that are off by a coarse dtype's eps, or eps of the scale, that a stage may be off by where modules compute in it.

Measured: 2.5 at most, perceptrons of 1 to 8 layers in bfloat16 with and without layer norm, torch against XLA, 32 pairs.
"""

COARSER = 64.0
"""A second disturbance, so many times larger: what rounding does to a gradient grows with it, what a branch does stays."""

GROWS = 8.0
"""The least growth of a spread that a disturbance COARSER times as large must cause to be of rounding.

Measured on 600 small models in each dtype: 0.6 to 2 times where residuals are 0 to the bit and the loss is |e|, 38 to 150 times
where a squared error is near its minimum. Of |e|^1.5, whose slope has no bound at 0, 5 to 15 times: either may be said of it.
"""


def of_stage(spec: RunSpec, trainer: Trainer) -> StageLimits:
    """The limits of the stages of one step: from operation twins where there are any, else from input twins.

    Args:
        spec: the run.
        trainer: a trainer of the reference.
    """
    twin = _disturbable(spec)

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        with np.errstate(all="ignore"):  # a diverging step is judged by its numbers
            exact = stages_of(trainer, snapshot, batch)
            input_limits = _from_inputs(spec, trainer, exact, snapshot, batch)
            if twin is None:
                return _with_hyperparameters(spec, exact, input_limits)
            return _from_operations(twin, _twins(spec), snapshot, batch, input_limits)

    return limits


def of_stage_inputs(spec: RunSpec, trainer: Trainer) -> StageLimits:
    """The same from input twins alone, even where operations could be disturbed."""

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        with np.errstate(all="ignore"):
            return _from_inputs(spec, trainer, stages_of(trainer, snapshot, batch), snapshot, batch)

    return limits


def of_run(spec: RunSpec, reference: Implementation) -> dict[str, Array]:
    """The largest distance that rounding causes between two whole runs, by quantity, of each quantity's shape.

    Args:
        spec: the run.
        reference: the implementation whose disturbed runs are measured.
    """
    widest = of_run_inputs(spec, reference)
    twin = _disturbable(spec)
    if twin is None:
        return widest
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        exact = _stepwise(spec, twin)
        twins = trajectory(twin.disturbed(_batches(spec), _twins(spec), SEED).trace)
        for name, value in exact.items():
            # The side that is compared against may have trained another number of steps.
            if name in widest and widest[name].shape == value.shape:
                spread = deviation(twins[name], value)
                largest = spread if name == LOSS else spread.max(initial=0.0)
                widest[name] = np.maximum(widest[name], MULTIPLE * largest)
    return widest


def of_run_inputs(spec: RunSpec, reference: Implementation) -> dict[str, Array]:
    """The largest distance that rounding explains, from input twins alone.

    UNITS times eps of the quantity's scale, or times the distance to runs whose inputs and initial parameters are
    disturbed by one eps, whichever is larger; of a loss, the largest distance up to that step.
    """
    eps = float(np.finfo(spec.dtype).eps)
    with np.errstate(all="ignore"):
        exact = _stepwise(spec, Altered(reference.trainer(spec), Intervention()))
        distance = {name: np.zeros(value.shape) for name, value in exact.items()}
        for seed in range(SAMPLES):
            near = _stepwise(spec, Altered(reference.trainer(spec), input_twin(seed, eps)))
            distance = {name: np.fmax(distance[name], _distance(exact[name], near[name])) for name in exact}
        return {
            name: np.maximum(limit, UNITS * _spread(name, distance[name]))
            for name, limit in of_rounding(spec.dtype, exact).items()
        }


def _stepwise(spec: RunSpec, trainer: Trainer) -> Trajectory:
    """A whole run, step by step, as twins take it: a fault of its `fit` or its `step` must not change a limit."""
    return trajectory(StepByStep(trainer).fit(trainer.init(), spec.batches(), LOSSES_ONLY))


def of_rounding(dtype: str, exact: Trajectory) -> dict[str, Array]:
    """UNITS times eps of each quantity's scale, of its shape."""
    return shares(exact, UNITS * float(np.finfo(dtype).eps))


def shares(exact: Trajectory, share: float) -> dict[str, Array]:
    """A share of each quantity's scale, of its shape."""
    return {name: share * _run_scale(name, value) for name, value in exact.items()}


def of_judge(judge: Judge, exact: Trajectory) -> dict[str, Array]:
    """The limits of a tolerance, by quantity of a whole run."""
    limits = {}
    for name, value in exact.items():
        finite = np.nan_to_num(value.astype(np.float64), posinf=0.0, neginf=0.0)
        quantity = LOSS if name == LOSS else name.partition("/")[2]
        limits[name] = (
            judge.limit(quantity, judge.scale(finite, name == LOSS)) if value.size else np.zeros(value.shape)
        )
    return limits


def _disturbable(spec: RunSpec) -> Disturbable | None:
    """The registered reference, whichever one the diagnosis uses: the disturbed implementation must be a right one."""
    if not isinstance(spec, Problem):
        return None
    reference = backends.load(backends.REFERENCE)
    return cast("Disturbable", reference.trainer(spec)) if reference.supports(spec) is None else None


def _twins(spec: RunSpec) -> int:
    assert isinstance(spec, Problem)
    return twins_for(spec)


def _batches(spec: RunSpec) -> Batches:
    assert isinstance(spec, Problem)
    return spec.batches()


def _from_inputs(
    spec: RunSpec, trainer: Trainer, exact: Arrays, snapshot: Snapshot, batch: Batch
) -> dict[str, float]:
    """From the trainer's own step and a few disturbed ones.

    A limit is UNITS eps of the quantity's largest magnitude, or UNITS times the spread, whichever is larger. The spread is
    measured over a whole step, so it covers cancellation (a gradient near the optimum, a bias before a batch norm) and the
    magnification by an optimizer.
    """
    eps = float(np.finfo(spec.dtype).eps)
    spread = _input_spread(trainer, exact, snapshot, batch, eps)
    rounding = {name: UNITS * eps * _sums(name, batch) * _scale(name, exact) for name in exact}
    widest = {name: max(rounding[name], UNITS * spread[name]) for name in exact}
    return {
        **widest,
        **_of_one_branch(trainer, exact, snapshot, batch, eps, spread, rounding),
        **_of_coarse_modules(trainer, exact, snapshot, batch, widest),
    }


def _of_coarse_modules(
    trainer: Trainer, exact: Arrays, snapshot: Snapshot, batch: Batch, widest: Mapping[str, float]
) -> dict[str, float]:
    """The second limits of the stages that come of modules whose output is in half precision."""
    eps = coarsest(trainer)
    if not eps:
        return {}
    spread = _input_spread(trainer, exact, snapshot, batch, eps)
    return {
        COARSE + name: max(widest[name], HALF * max(spread[name], eps * _scale(name, exact)))
        for name in exact
        if name.partition("/")[0] in COMPUTED
    }


def _input_spread(
    trainer: Trainer, exact: Arrays, snapshot: Snapshot, batch: Batch, eps: float
) -> dict[str, float]:
    """The largest distance of each stage to that of a step whose inputs are off by `eps`, in SAMPLES steps."""
    grads = gradients(exact)
    spread: dict[str, float] = dict.fromkeys(exact, 0.0)
    for seed in range(SAMPLES):
        disturb = disturbance(seed, eps)
        near = stages_of(trainer, snapshot.each(disturb), disturbed_batch(batch, disturb), disturb(grads))
        spread = {name: max(spread[name], largest_distance(exact[name], near[name])) for name in exact}
    return spread


def _of_one_branch(
    trainer: Trainer,
    exact: Arrays,
    snapshot: Snapshot,
    batch: Batch,
    eps: float,
    spread: Mapping[str, float],
    rounding: Mapping[str, float],
) -> dict[str, float]:
    """The second limit of each gradient that scatters because a disturbance takes another branch: at a tie of a maximum, at |0|.

    Such a spread is as large however small the disturbance is. A limit is what rounding does without it: as of a stage that does not
    scatter, and UNITS times the spread of the gradients that do grow with the disturbance.
    """
    names = [f"gradient/{name}" for name in gradients(exact)]
    undecided = [name for name in names if spread[name] and _scale(name, exact) <= UNITS * spread[name]]
    if not undecided:
        return {}
    coarse = _input_spread(trainer, exact, snapshot, batch, COARSER * eps)
    jumping = [name for name in undecided if coarse[name] < GROWS * spread[name]]
    largest = max(_scale(name, exact) for name in names)
    smooth = max((spread[name] for name in names if name not in jumping), default=0.0)
    least = max(CANCELLED * eps * largest, UNITS * smooth)
    limits = {name: max(rounding[name], least) for name in jumping}
    # A gradient that is 0 but for rounding scatters by no more than that, however large the disturbance.
    return {UNDISTURBED + name: limit for name, limit in limits.items() if spread[name] > limit}


def _with_hyperparameters(
    spec: RunSpec, exact: Arrays, input_limits: Mapping[str, float]
) -> dict[str, float]:
    """Wider by effects that no disturbed input shows: hyperparameters' own rounding, and cancellation inside a backward pass."""
    eps = float(np.finfo(spec.dtype).eps)
    # 1 − t² of a unit t near 1 has lost digits, and the cotangent that it scales down may be large.
    largest = max((_magnitude(value) for value in gradients(exact).values()), default=0.0)
    wider = dict(input_limits)
    for name, limit in input_limits.items():
        kind, _, part = name.partition("/")
        if kind == "gradient":
            wider[name] = max(limit, CANCELLED * eps * largest)
        if not gradients(exact) and kind in WHOLE:
            wider[name] = limit = max(limit, CANCELLED * eps * _largest_alike(name, exact))
        if kind in ("update", "parameters") or name.startswith("step/parameters/"):
            update = exact.get(f"update/{part.removeprefix('parameters/')}")
            size = 0.0 if update is None else _magnitude(update)
            wider[name] = max(limit, MULTIPLE * UPDATE * eps * size)
    return wider


def _largest_alike(name: str, exact: Arrays) -> float:
    """The largest magnitude of all updates; of an optimizer's state that of one slot: ``optimizer/0/mu`` of every parameter."""
    name = name.replace("parameters/", "update/", 1) if name.startswith("parameters/") else name
    parameters = [one.removeprefix("update") for one in exact if one.startswith("update/")]
    slot = next((name.removesuffix(one) for one in parameters if name.endswith(one)), name)
    return max(_magnitude(value) for one, value in exact.items() if one.startswith(slot))


def _from_operations(
    twin: Disturbable, number: int, snapshot: Snapshot, batch: Batch, input_limits: Mapping[str, float]
) -> dict[str, float]:
    """Wider where twins whose every operation is disturbed have a larger spread."""
    exact = stages_of(twin, snapshot, batch)
    twins = _stages(twin.disturbed_step(snapshot, batch, gradients(exact), number, SEED), snapshot)
    wider = dict(input_limits)
    for name in input_limits.keys() & exact.keys() & twins.keys():
        spread = float(deviation(twins[name], exact[name]).max(initial=0.0))
        wider[name] = max(input_limits[name], MULTIPLE * spread)
    return wider


def _stages(step: DisturbedStep, before: Snapshot) -> dict[str, Array]:
    """A disturbed step under the names that `stages_of` gives."""
    injected = {name: value for name, value in fields(step.injected).items() if name != "count"}
    updates = {
        f"update/{name}": value - before.parameters[name] for name, value in step.injected.parameters.items()
    }
    undivided = {f"step/{name}": value for name, value in fields(step.undivided).items() if name != "count"}
    computed = {name: value for name, value in step.stages.items() if not name.startswith("batch/")}
    return {**computed, **injected, **updates, **undivided, "step/loss": step.stages["loss"]}


def _sums(name: str, batch: Batch) -> float:
    """The growth of rounding in a stage whose sums are longer than the sums that UNITS cover."""
    rows = len(np.atleast_1d(next(iter(leaves(batch.x).values()))))
    return max(1.0, math.sqrt(rows / TERMS)) if name.partition("/")[0] in SUMMED else 1.0


def largest_distance(left: Array, right: Array) -> float:
    """Of two elements of arrays of one shape; infinite where it is no number."""
    return float(_distance(left, right).max(initial=0.0))


def _scale(name: str, stages: Arrays) -> float:
    """The quantity's largest magnitude; of an update, which is a difference of parameters, at least theirs."""
    values = [stages[name]]
    if name.startswith("update/"):
        values.append(stages[name.replace("update/", "state/parameters/", 1)])
    return max(_magnitude(value) for value in values)


def _magnitude(value: Array) -> float:
    return float(np.abs(value.astype(np.float64)).max(initial=0.0))


def _distance(left: Array, right: Array) -> Array:
    return np.nan_to_num(np.abs(left.astype(np.float64) - right), nan=np.inf)


def _run_scale(name: str, value: Array) -> Array:
    """The scale of a loss: the larger of it and the first; of anything else: the largest magnitude."""
    magnitude: Array = np.nan_to_num(np.abs(value.astype(np.float64)))
    return (
        magnitude.clip(min=magnitude[0]) if name == LOSS else np.full(value.shape, magnitude.max(initial=0.0))
    )


def _spread(name: str, distance: Array) -> Array:
    """One element's spread may be small by chance: of a loss the largest so far counts, of others the largest of all."""
    return (
        np.maximum.accumulate(distance)
        if name == LOSS
        else np.full(distance.shape, distance.max(initial=0.0))
    )
