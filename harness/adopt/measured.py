"""How far apart rounding may bring two adopted runs: measured by twins of both sides, disturbed within rounding.

There is no NumPy problem behind adopted code whose every operation could be disturbed. In its place each twin's
parameters and batches are disturbed by one eps before every step, and the update that a step makes by UPDATE eps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import Tree, mapped
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import Side, held, step_of
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.tolerance import FIXED, Tolerance, scaled
from lockstep.harness.numerics.budget import BLIND, MULTIPLE, NEGLIGIBLE, deviation
from lockstep.harness.numerics.limits import disturbance

TWINS = 8
"""Runs of each side. A scalar's spread is by chance 32 times too small in all eight less than once in 10¹¹."""

UPDATE = 8.0
"""Eps of an update that hyperparameters' own rounding explains.

optax.adam forms 1 − βᵗ in float32: with β₂ = 0.999 its first updates are off by 2.3e-5, 200 eps, which 32 spreads of 8 eps
cover. A learning rate that is wrong by less than 3e-5 in float32, or 6e-14 in float64, passes for rounding.
"""


@dataclass(frozen=True)
class MeasuredTolerance:
    """The fixed tolerance, or MULTIPLE spreads of the twins of both sides where that is wider.

    Attributes:
        fixed: that of the dtype.
        spreads: by quantity: of losses (steps,), of everything else one number.
        smallest: the scale below which a leaf is negligible.
        rtol, atol, scaled, kind, source: as of a `Tolerance`.
    """

    fixed: Tolerance
    spreads: Mapping[str, Array]
    smallest: float
    rtol: float = 0.0
    atol: float = 0.0
    scaled: bool = True
    kind: str = "budget"

    @property
    def source(self) -> str:
        """What it is, in words."""
        return f"measured: {MULTIPLE:g} spreads of {TWINS} disturbed twins of each side, at least {self.fixed.rtol:g}"

    def scale(self, left: Array, is_loss: bool) -> Array:
        """As of a scaled `Tolerance`."""
        return scaled(left, is_loss)

    def limit(self, quantity: str, scale: Array) -> Array:
        """The largest distance that rounding explains; of a run that is cut short, that of its first steps."""
        spread = self.spreads.get(quantity, np.zeros(()))
        spread = spread[: len(scale)] if spread.ndim else spread
        limit: Array = np.maximum(
            self.fixed.limit(quantity, scale), MULTIPLE * np.broadcast_to(spread, scale.shape)
        )
        return limit

    def blind(self, quantity: str, scale: Array) -> Array:
        """Where the limit is so wide that nothing would be caught."""
        blind: Array = self.limit(quantity, scale) > BLIND * np.maximum(scale, self.smallest)
        return blind


def measure(sides: Sequence[Side], task: Task) -> MeasuredTolerance:
    """The tolerance of a task, from TWINS disturbed runs of every side."""
    with np.errstate(all="ignore"):  # twins that diverge are judged by their numbers
        found = []
        for side in sides:
            with step_of(side.trainer):
                found.append(_spreads(side, task))
    spreads = {name: np.max([one[name] for one in found if name in one], axis=0) for name in found[0]}
    parameters = sides[0].start.parameters
    largest = max(float(np.abs(value).max(initial=0.0)) for value in parameters.values())
    return MeasuredTolerance(FIXED[task.dtype], spreads, NEGLIGIBLE[task.dtype] * largest)


def _spreads(side: Side, task: Task) -> dict[str, Array]:
    """By quantity, under the reference's names: of a loss the largest so far, of a leaf the largest in it."""
    plain = _run(side, task, None)
    twins = [_run(side, task, seed) for seed in range(TWINS)]
    spreads = {name: deviation(np.stack([one[name] for one in twins]), plain[name]) for name in plain}
    return {
        name: np.maximum.accumulate(value) if name == LOSS else np.max(value, initial=0.0)
        for name, value in spreads.items()
    }


def _run(side: Side, task: Task, seed: int | None) -> dict[str, Array]:
    """Losses and what the run ends with; disturbed anew before every step unless there is no seed."""
    trainer, losses = side.trainer, []
    state, eps = side.begin(), float(np.finfo(task.dtype).eps)
    for step, batch in enumerate(side.batches(task)):
        if seed is None:
            state, loss = trainer.step(state, batch)
        else:
            before = disturbed(trainer.read(state), [seed, step], eps)
            state, loss = trainer.step(
                trainer.write(state, before), disturbed_batch(batch, [seed, step], eps)
            )
            state = trainer.write(state, _rounded(before, trainer.read(state), [seed, step], eps))
        losses.append(np.asarray(loss, dtype=np.float64).reshape(()))
    return {LOSS: np.stack(losses), **side.canonical(held(trainer.read(state)))}


def _rounded(before: Snapshot, after: Snapshot, seed: Sequence[int], eps: float) -> Snapshot:
    """The state after a step, with each parameter's update off by UPDATE eps of itself."""
    signs = np.random.default_rng([*seed, 1]).choice((-1.0, 1.0), len(after.parameters))
    moved = {
        name: (value + sign * UPDATE * eps * (value.astype(np.float64) - before.parameters[name])).astype(
            value.dtype
        )
        for sign, (name, value) in zip(signs, after.parameters.items(), strict=True)
    }
    return dataclasses.replace(after, parameters=moved)


def disturbed(snapshot: Snapshot, seed: Iterable[int], eps: float) -> Snapshot:
    """A state whose parameters are off by one eps."""
    disturb = disturbance(_one(seed), eps)
    return dataclasses.replace(snapshot, parameters=disturb(snapshot.parameters))


def disturbed_batch(batch: Batch, seed: Iterable[int], eps: float) -> Batch:
    """A batch whose floats are off by one eps; ids and class numbers stay."""
    disturb = disturbance(_one(seed) + 1, eps)
    return Batch(_each(batch.x, disturb), _each(batch.y, disturb), batch.masks)


def _each(tree: Tree, disturb: object) -> Tree:
    change = lambda leaf: disturb({"": leaf})[""] if leaf.dtype.kind == "f" else leaf  # type: ignore[operator]  # noqa: E731
    return mapped(change, tree)


def _one(seed: Iterable[int]) -> int:
    """One number of several."""
    return int(np.random.SeedSequence(list(seed)).generate_state(1)[0])


def spread_of(arrays: Sequence[Arrays], exact: Arrays) -> dict[str, float]:
    """The largest distance of any of `arrays` to `exact`, by name."""
    return {
        name: max(
            float(np.nan_to_num(np.abs(one[name].astype(np.float64) - value), nan=np.inf).max(initial=0.0))
            for one in arrays
        )
        for name, value in exact.items()
    }
