"""The states of two adopted runs: what has a counterpart is compared, what has none is listed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.harness.adopt.renamed import UNLINKED
from lockstep.harness.adopt.state_names import ends
from lockstep.harness.core.compare import (
    STATE,
    Comparison,
    Run,
    compare_arrays,
    compare_whole,
    without_vacuous,
)
from lockstep.harness.core.distance import is_whole
from lockstep.harness.core.tolerance import AtLeast, Judge
from lockstep.harness.verification.result import LeftOut

BUFFER, OPTIMIZER = "buffer", "optimizer's state"


def compared_states(blank: Comparison, left: Run, right: Run, tolerance: Judge) -> list[Comparison]:
    """The arrays that both optimizers keep under one name and in one shape, and the buffers that hold whole numbers.

    The optimizer's arrays of one kind are computed together, so that a number of one of them may be off by the rounding of the
    largest of all.

    Args:
        blank: names the runs.
        left, right: two runs that trained, under the reference's names.
        tolerance: of what is not whole.
    """
    ours, theirs = _states(left), _states(right)
    names = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    assert left.trace is not None
    kinds = {name: _kind(name, left.trace.final.parameters) for name in names}
    least = _largest({name: ours[name] for name in names}, kinds)
    compared = []
    for name in sorted(names):
        one = dataclasses.replace(blank, quantity=name)
        pair = ours[name], theirs[name]
        if all(map(is_whole, pair)):
            compared.append(compare_whole(one, *pair))
            continue
        judge = AtLeast(tolerance, least[kinds[name]])
        one = dataclasses.replace(one, tolerance=judge)
        compared.append(compare_arrays(one, *pair, pair[0].shape, str(pair[0].dtype)))
    return without_vacuous(compared, ours)


def left_out(runs: Sequence[Run]) -> tuple[LeftOut, ...]:
    """The buffers and the arrays of optimizers, by run, that are compared with no other run's.

    Args:
        runs: all that trained, the reference first.
    """
    return tuple(one for run in runs for one in _left_out(run, [other for other in runs if other is not run]))


def _left_out(run: Run, others: Iterable[Run]) -> Iterator[LeftOut]:
    states = _states(run)
    shared = {
        name
        for other in others
        for name, value in _states(other).items()
        if name in states and states[name].shape == value.shape
    }
    own = [name.removeprefix(f"{STATE}/") for name in states if name not in shared]
    assert run.trace is not None
    prefix = f"{UNLINKED}/"
    buffers = tuple(
        name.removeprefix(prefix) for name in run.trace.final.optimizer if name.startswith(prefix)
    )
    for kind, names in ((BUFFER, buffers), (OPTIMIZER, tuple(own))):
        if names:
            yield LeftOut(run.backend, kind, tuple(sorted(names)))


def _states(run: Run) -> dict[str, Array]:
    """What its optimizer keeps, and its buffers of whole numbers, by quantity."""
    assert run.trace is not None
    final = run.trace.final
    state = {
        f"{STATE}/{name}": value
        for name, value in final.optimizer.items()
        if not name.startswith(f"{UNLINKED}/") and value.size
    }
    return {**{name: value for name, value in final.buffers.items() if is_whole(value)}, **state}


def _largest(arrays: Arrays, kinds: Mapping[str, str]) -> Mapping[str, float]:
    """The largest finite magnitude of the arrays of each kind."""
    largest: dict[str, float] = {}
    for name, value in arrays.items():
        finite = np.abs(value[np.isfinite(value)].astype(np.float64))
        largest[kinds[name]] = max(largest.get(kinds[name], 0.0), float(finite.max(initial=0.0)))
    return largest


def _kind(name: str, parameters: Collection[str]) -> str:
    """The name without the parameter's: ``optimizer/0/mu`` of ``optimizer/0/mu/linear/w``; all of it where it has none."""
    return next((name.removesuffix(end) for end in ends(name) if end in parameters), name)
