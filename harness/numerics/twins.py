"""Input twins: the same run from numbers that are disturbed within rounding, where its operations cannot be.

A twin is an intervention, for any trainer and any run. `lockstep.backends.protocol.Disturbable` trainers have
twins whose every operation is disturbed; these are for all others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from lockstep.backends.adoption import Tree, mapped
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot
from lockstep.harness.runs.intervention import Intervention

UPDATE = 8.0
"""Eps of an update that hyperparameters' own rounding explains.

optax.adam forms 1 − βᵗ in float32: with β₂ = 0.999 its first updates are off by 2.3e-5, 200 eps, which 32 spreads of 8 eps
cover. A learning rate that is wrong by less than 3e-5 in float32, or 6e-14 in float64, passes for rounding.
"""

LARGEST_ID = 2.0**24
"""Beyond, every float32 is a whole number."""

Disturb = Callable[[Arrays], dict[str, Array]]
"""Named arrays, each element moved within rounding."""


def disturbance(seed: int, eps: float) -> Disturb:
    """Moves every element of named arrays by ±eps of itself; whole numbers up to LARGEST_ID may be ids and stay."""
    rng = np.random.default_rng(seed)

    def disturb(arrays: Arrays) -> dict[str, Array]:
        return {name: _disturbed(value, eps, rng) for name, value in arrays.items()}

    return disturb


def disturbed_batch(batch: Batch, disturb: Disturb) -> Batch:
    """A batch whose floats are disturbed; a user's own batch may be trees of arrays."""
    return Batch(_each(batch.x, disturb), _each(batch.y, disturb), batch.masks)


def input_twin(seed: int, eps: float) -> Intervention:
    """A run whose start and whose every batch are off by one eps."""
    disturb = disturbance(seed, eps)
    return Intervention(
        "is disturbed",
        on_start=lambda start: dataclasses.replace(start, parameters=disturb(start.parameters)),
        on_batch=lambda batch: disturbed_batch(batch, disturb),
    )


def step_twin(seed: int, eps: float) -> Intervention:
    """A run whose parameters and batches are off by one eps before every step, and whose every update by UPDATE eps."""
    disturb, rng = disturbance(seed, eps), np.random.default_rng([seed, 1])

    def start(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(snapshot, parameters=disturb(snapshot.parameters))

    def update(before: Snapshot, after: Snapshot) -> Snapshot:
        # As by one whose hyperparameters are rounded: of a parameter all elements the same way.
        signs = _signs(rng, (len(after.parameters),))
        moved = {
            name: _along(before.parameters[name], value, sign * UPDATE * eps)
            for sign, (name, value) in zip(signs, after.parameters.items(), strict=True)
        }
        return start(dataclasses.replace(after, parameters=moved))

    return Intervention(
        "is disturbed at every step",
        on_start=start,
        on_batch=lambda batch: disturbed_batch(batch, disturb),
        on_update=update,
    )


def _disturbed(value: Array, eps: float, rng: np.random.Generator) -> Array:
    signs = _signs(rng, value.shape)
    if value.dtype.kind != "f" or _maybe_ids(value):
        return value.copy()
    moved: Array = (value.astype(np.float64) * (1 + eps * signs)).astype(value.dtype)
    return moved


def _maybe_ids(value: Array) -> bool:
    return bool((value == np.floor(value)).all() and (np.abs(value) <= LARGEST_ID).all())


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Each −1 or 1."""
    return 2.0 * rng.integers(0, 2, shape) - 1.0


def _along(before: Array, after: Array, share: float) -> Array:
    """The parameter after an update, moved by a share of the update."""
    moved: Array = (after + share * (after.astype(np.float64) - before)).astype(after.dtype)
    return moved


def _each(tree: Tree, disturb: Disturb) -> Tree:
    return mapped(lambda leaf: disturb({"": leaf})[""], tree)
