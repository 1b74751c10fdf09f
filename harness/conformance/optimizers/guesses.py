"""What any two optimizers are known to part by, read off their updates or tried from a short list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.conformance.optimizers import sequences as courses
from lockstep.harness.conformance.optimizers.pair import Pair
from lockstep.harness.conformance.optimizers.running import Alteration, Path

ALIKE = {"float64": 1e-9, "float32": 1e-4}
"""How near quotients of updates are that are one number; running it decides."""

DECAYS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1)
"""Weight decays that are in use."""

DAMPENINGS = (0.01, 0.1, 0.5, 0.9, 0.99)
"""And dampenings."""

Guess = tuple[bool, Alteration]
"""Whether it is ours that is altered and the other that is believed to do so; and how."""


def guesses(pair: Pair, dtype: str) -> Iterator[Guess]:
    """From what can be read off to what can only be tried."""
    ours, theirs = (_updates(pair.path(index, courses.first, dtype)) for index in (0, 1))
    yield from _rate(ours, theirs, ALIKE[dtype])
    yield from _decay(pair, dtype)
    yield False, Alteration("update count", "counts its updates from one too many", ahead=1)
    yield True, Alteration("update count", "counts its updates from one too many", ahead=1)
    for share in DAMPENINGS:
        does = f"damps the gradient by {share:g}, but not at the first step"
        yield False, Alteration("dampening", does, turn=_damped(share))
        yield True, Alteration("dampening", does, turn=_damped(share))


def _updates(path: Path) -> Arrays:
    """What the first update adds, in double."""
    return {name: value[1].astype(np.float64) - value[0] for name, value in path.items()}


def _rate(ours: Arrays, theirs: Arrays, near: float) -> Iterator[Guess]:
    """One update is a multiple of the other."""
    ratio = _quotient(theirs, ours, near)
    if ratio is None or abs(ratio - 1) <= near:
        return
    does = (
        "moves the other way: a gradient is subtracted that should be added, or added that should be subtracted"
        if abs(ratio + 1) <= near
        else f"updates {ratio:.6g} times as far: its learning rate is {ratio:.6g} times the other's"
    )

    def settle(before: Arrays, after: Arrays) -> Arrays:
        return {name: before[name] + ratio * (value - before[name]) for name, value in after.items()}

    yield False, Alteration("learning rate", does, settle=_settling(settle))


def _decay(pair: Pair, dtype: str) -> Iterator[Guess]:
    """Decays apart from the gradient show where there is none; coupled ones are tried."""
    start = pair.course(courses.zero, dtype).start
    alone = [
        _quotient(start, _updates(pair.path(index, courses.zero, dtype)), 1e3 * ALIKE[dtype])
        for index in (0, 1)
    ]
    ours, theirs = (0.0 if share is None else share for share in alone)
    if ours != theirs:
        more = "more" if ours < theirs else "less"
        does = f"decays the parameters by {abs(ours - theirs):.6g} of themselves {more} at each update"
        yield False, Alteration("weight decay", does, settle=_shrinking(ours - theirs))
    for rate in DECAYS:
        does = f"adds {rate:g} times the parameters to the gradient"
        yield False, Alteration("weight decay", does, turn=_coupled(rate))
        yield True, Alteration("weight decay", does, turn=_coupled(rate))
        does = f"couples the weight decay of {rate:g} with the gradient where the other decouples it"
        if theirs:
            yield False, Alteration("weight decay", does, turn=_coupled(rate), settle=_shrinking(-theirs))
        if ours:
            yield True, Alteration("weight decay", does, turn=_coupled(rate), settle=_shrinking(-ours))


def _quotient(below: Arrays, above: Arrays, near: float) -> float | None:
    """The one number by which all of `above` are multiples of `below`; None if there is none. Zeros may stand over zeros."""
    one, other = (np.concatenate([arrays[name].ravel() for name in below]) for arrays in (below, above))
    if not np.isfinite([one, other]).all() or not one.any() or (other[one == 0] != 0).any():
        return None
    shares: Array = other[one != 0] / one[one != 0].astype(np.float64)
    middle = float(np.median(shares))
    return middle if (np.abs(shares - middle) <= near * abs(middle)).all() else None


def _settling(change: Callable[[Arrays, Arrays], Arrays]) -> Callable[[Snapshot, Snapshot], Snapshot]:
    """A change of the parameters, formed in double, as one of a state."""

    def settle(before: Snapshot, after: Snapshot) -> Snapshot:
        changed = change(_double(before.parameters), _double(after.parameters))
        rounded = {name: value.astype(after.parameters[name].dtype) for name, value in changed.items()}
        return dataclasses.replace(after, parameters=rounded)

    return settle


def _double(arrays: Arrays) -> Arrays:
    return {name: value.astype(np.float64) for name, value in arrays.items()}


def _shrinking(share: float) -> Callable[[Snapshot, Snapshot], Snapshot]:
    """What is added to every parameter after each update, as a share of what it was before."""
    return _settling(
        lambda before, after: {name: value + share * before[name] for name, value in after.items()}
    )


def _coupled(rate: float) -> Callable[[Arrays, Arrays, int], Arrays]:
    return lambda grads, parameters, step: {
        name: (value + rate * parameters[name]).astype(value.dtype) for name, value in grads.items()
    }


def _damped(share: float) -> Callable[[Arrays, Arrays, int], Arrays]:
    return lambda grads, parameters, step: {
        name: value if step == 0 else ((1 - share) * value).astype(value.dtype)
        for name, value in grads.items()
    }
