"""Bugs of what training starts from: the batches and the initial parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from lockstep.backends.problem import Array, Batch, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations import (
    REARRANGED,
    SINGLE_PRECISION,
)
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest.mutants.mutant import BATCH, START, Mutant, Plant, Rng, leaf, single, small


def _batch(change: Callable[[Batch], Batch]) -> Plant:
    return lambda problem, rng: Intervention(on_batch=change)


def _misaligned(batch: Batch) -> Batch:
    return Batch(batch.x, np.roll(batch.y, 1, axis=0), batch.masks)


def _repeated_row(batch: Batch) -> Batch:
    x, y = batch.x.copy(), batch.y.copy()
    x[-1], y[-1] = x[0], y[0]
    return Batch(x, y, batch.masks)


def _unscaled_masks(batch: Batch) -> Batch:
    return Batch(
        batch.x, batch.y, {name: (mask > 0).astype(mask.dtype) for name, mask in batch.masks.items()}
    )


def _no_masks(batch: Batch) -> Batch:
    return Batch(batch.x, batch.y, {name: np.ones_like(mask) for name, mask in batch.masks.items()})


def _column(problem: Problem, rng: Rng) -> Intervention:
    """One column of the data off by a factor."""
    column, factor = int(rng.integers(problem.x.shape[-1])), 1 + small(rng)

    def on_batch(batch: Batch) -> Batch:
        x = batch.x.copy()
        x[..., column] *= factor
        return Batch(x, batch.y, batch.masks)

    return Intervention(on_batch=on_batch)


def _targets(problem: Problem, rng: Rng) -> Intervention:
    factor = 1 + small(rng)
    return Intervention(on_batch=lambda batch: Batch(batch.x, batch.y * factor, batch.masks))


def _transposed_start(problem: Problem, rng: Rng) -> Intervention:
    def on_start(snapshot: Snapshot) -> Snapshot:
        transposed = {
            name: value.T if value.ndim == 2 and value.shape[0] == value.shape[1] else value
            for name, value in snapshot.parameters.items()
        }
        return dataclasses.replace(snapshot, parameters=transposed)

    return Intervention(on_start=on_start)


def _started(change: Callable[[Array, Rng], Array]) -> Plant:
    """One initial parameter."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        name = leaf({key: value for key, value in problem.initial_parameters().items() if np.any(value)}, rng)

        def on_start(snapshot: Snapshot) -> Snapshot:
            changed = {**snapshot.parameters, name: change(snapshot.parameters[name], rng)}
            return dataclasses.replace(snapshot, parameters=changed)

        return Intervention(on_start=on_start)

    return plant


DATA = (
    Mutant("targets one row off", BATCH, ("seed", "minibatches", "huber"), _batch(_misaligned)),
    Mutant("the first row again instead of the last", BATCH, ("seed", "poisson"), _batch(_repeated_row)),
    Mutant(
        "data rounded to float32",
        BATCH,
        ("polynomial", "probe-double"),
        _batch(lambda batch: Batch(single(batch.x), single(batch.y), batch.masks)),
        SINGLE_PRECISION,
    ),
    Mutant(
        "targets rounded to float32",
        BATCH,
        ("probe-double",),
        _batch(lambda batch: Batch(batch.x, single(batch.y), batch.masks)),
    ),
    Mutant("a column of the data scaled", BATCH, ("seed", "ridge", "adam"), _column),
    Mutant("targets scaled", BATCH, ("seed", "huber", "quantile"), _targets),
    Mutant("dropout that does not rescale", BATCH, ("residual-mlp",), _batch(_unscaled_masks)),
    Mutant("dropout that does not drop", BATCH, ("residual-mlp",), _batch(_no_masks)),
    Mutant("a square weight transposed", START, ("probe-square",), _transposed_start, REARRANGED),
    Mutant(
        "an initial parameter scaled",
        START,
        ("adam", "momentum"),
        _started(lambda value, rng: value * (1 + small(rng))),
    ),
    Mutant(
        "an initial parameter rounded to float32",
        START,
        ("adam", "momentum"),
        _started(lambda value, rng: single(value)),
    ),
    Mutant(
        "an initial parameter reversed",
        START,
        ("adam", "attention"),
        _started(lambda value, rng: value[..., ::-1].copy() if value.shape[-1] > 1 else -value),
    ),
)
