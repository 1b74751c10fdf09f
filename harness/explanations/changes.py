"""Changes that interventions are composed of: changes of gradients, and of updated parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.runs.intervention import OnGradients, OnState, StepContext

Change = Callable[[Array], Array]


def each(arrays: Arrays, change: Change) -> dict[str, Array]:
    """Every array changed, in its own dtype."""
    return {name: change(value).astype(value.dtype, copy=False) for name, value in arrays.items()}


def every_gradient(change: Change) -> OnGradients:
    """The same change of all gradients."""
    return lambda grads, context: each(grads, change)


def some_gradients(changes: Mapping[str, Change]) -> OnGradients:
    """A change of some gradients, by name."""
    return lambda grads, context: {
        name: changes[name](value).astype(value.dtype, copy=False) if name in changes else value
        for name, value in grads.items()
    }


def times(factor: float) -> Change:
    """A multiple."""
    return lambda value: factor * value


def swapped(one: str, two: str) -> OnGradients:
    """Two gradients exchanged."""
    return lambda grads, context: {**grads, one: grads[two], two: grads[one]}


def plus_parameters(share: float) -> OnGradients:
    """A share of each parameter added to its gradient: coupled weight decay."""

    def change(grads: Arrays, context: StepContext) -> Arrays:
        parameters = context.before.parameters
        return {name: (value + share * parameters[name]).astype(value.dtype) for name, value in grads.items()}

    return change


def each_parameter(change: Change) -> Callable[[Snapshot], Snapshot]:
    """The same change of all parameters of a state."""
    return lambda state: dataclasses.replace(state, parameters=each(state.parameters, change))


def never_updated(names: Collection[str]) -> OnState:
    """These parameters stay as they were."""
    return _parameters(lambda before, after: {name: before[name] for name in names if name in before})


def updates_times(factors: Mapping[str, float]) -> OnState:
    """The updates of these parameters, multiplied."""

    def change(before: Arrays, after: Arrays) -> Arrays:
        return {
            name: _further(before[name], after[name], factor)
            for name, factor in factors.items()
            if name in after
        }

    return _parameters(change)


def every_update_times(factor: float) -> OnState:
    """The updates of all parameters, multiplied by one number."""
    return _parameters(
        lambda before, after: {name: _further(before[name], value, factor) for name, value in after.items()}
    )


def _further(before: Array, after: Array, factor: float) -> Array:
    """A parameter that moves so many times as far."""
    moved: Array = before + factor * (after.astype(np.float64) - before)
    return moved


def plus_shares(shares: Mapping[str, float]) -> OnState:
    """A share of each of these parameters before the update, added to it: decoupled weight decay where it is below 0."""

    def change(before: Arrays, after: Arrays) -> Arrays:
        return {
            name: after[name] + share * before[name].astype(np.float64)
            for name, share in shares.items()
            if name in after
        }

    return _parameters(change)


def at_steps(changes: Mapping[int, OnState]) -> OnState:
    """Another change at each step, by its number; none at the others."""

    def on_update(before: Snapshot, after: Snapshot) -> Snapshot:
        change = changes.get(before.step)
        return after if change is None else change(before, after)

    return on_update


def global_norm(grads: Arrays) -> float:
    """The Euclidean norm of all gradients together."""
    return math.sqrt(sum(float(np.sum(np.square(value.astype(np.float64)))) for value in grads.values()))


def clipped_to(most: float) -> OnGradients:
    """All gradients times one number, where their norm together is above `most`: then it is `most`."""

    def change(grads: Arrays, context: StepContext) -> Arrays:
        norm = global_norm(grads)
        return each(grads, times(most / norm)) if norm > most else grads

    return change


def enlarged_above(least: float, factor: float) -> OnGradients:
    """All gradients times a factor, where their norm together is at least so large."""
    return lambda grads, context: each(grads, times(factor)) if global_norm(grads) >= least else grads


def _parameters(change: Callable[[Arrays, Arrays], Arrays]) -> OnState:
    """(parameters before the update, after it) -> the parameters that change."""

    def on_update(before: Snapshot, after: Snapshot) -> Snapshot:
        changed = change(before.parameters, after.parameters)
        rounded = {name: value.astype(after.parameters[name].dtype) for name, value in changed.items()}
        return dataclasses.replace(after, parameters={**after.parameters, **rounded})

    return on_update
