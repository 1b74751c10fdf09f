"""Verification of adopted trainers: train each on the same batches, and judge losses and final parameters."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.diagnosis import diagnose_sides
from lockstep.harness.adopt.factories import check_trainer
from lockstep.harness.adopt.measured import measure
from lockstep.harness.adopt.task import Task, task_of
from lockstep.harness.adopt.training import Side, held, refuse_other_draws, sides_of, train
from lockstep.harness.core.compare import (
    INPUTS,
    LOSS,
    Comparison,
    Fingerprint,
    Run,
    compare_arrays,
    compare_inputs,
    without_vacuous,
)
from lockstep.harness.core.tolerance import FIXED, Judge, choose
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.mapping.masks import masked
from lockstep.harness.mapping.matching import find_mapping
from lockstep.harness.runs.free_run import describe
from lockstep.harness.verification.parity import DIAGNOSED, Case, ParityError, Result

MOST_TOLD = 10_000
"""Numbers of final parameters that a run keeps for the report; of larger models it keeps none, the comparisons are made."""


def verify(
    trainers: Sequence[Adopted],
    batches: Iterable[Any],
    *,
    mapping: Any = None,
    steps: int | None = None,
    tolerance: str = "budget",
    rtol: float | None = None,
    atol: float | None = None,
    diagnose: str = "differing",
    name: str = "adopted",
) -> Result:
    """Train adopted trainers from the first one's parameters on the same batches, and judge.

    Args:
        trainers: two or more; the first is the reference: its names are reported, its parameters are where all start.
        batches: pairs (x, y), one a step; read once.
        mapping: from the first one's names to the second's: a `Mapping`, a dict, or a sequence of them for more trainers;
            by default found by `find_mapping`.
        steps: how many; by default as many as there are batches, which are begun again where there are fewer.
        tolerance: ``fixed``, or ``budget``: where the fixed one fails, what rounding can do is measured on both sides
            (`lockstep.harness.adopt.measured`) and judged by.
        rtol, atol: |left − right| ≤ atol + rtol·|left| instead.
        diagnose: ``none``, ``differing`` or ``all``: when to find where they first part.
        name: what reports call it.

    Raises:
        LockstepError: the trainers cannot be compared: other dtypes, a mapping that does not fit, random numbers.
    """
    if diagnose not in DIAGNOSED:
        raise AdoptionError("unknown cases to diagnose", repr(diagnose), f"give {', '.join(DIAGNOSED)}")
    task, sides = prepared(trainers, batches, mapping, steps, name)
    given = choose(task.dtype, rtol, atol, tolerance)
    runs = [_run(side, task) for side in sides]
    case = _judged(task, sides, runs, given or FIXED[task.dtype])
    if given is None and any(one.verdict is Verdict.DIFFER for one in case.comparisons):
        case = _judged(task, sides, runs, measure(sides, task))
    if diagnose == "all" or (diagnose == "differing" and case.verdict is not Verdict.AGREE):
        traces = [run.trace for run in runs]
        found = [
            diagnose_sides(task, sides[0], side, (traces[0], trace), case.tolerance)
            for side, trace in zip(sides[1:], traces[1:], strict=True)
            if traces[0] is not None and trace is not None
        ]
        case = dataclasses.replace(case, diagnoses=tuple(found))
    return Result(
        (
            dataclasses.replace(
                case, runs=tuple(_told(run, side) for run, side in zip(runs, sides, strict=True))
            ),
        )
    )


def assert_parity(trainers: Sequence[Adopted], batches: Iterable[Any], **settings: Any) -> Result:
    """`verify`, with the same arguments, that raises unless the verdict is AGREE.

    Raises:
        ParityError: with the census of what differs or could not be judged.
    """
    result = verify(trainers, batches, **settings)
    if result.verdict is not Verdict.AGREE:
        raise ParityError(result)
    return result


def prepared(
    trainers: Sequence[Adopted], batches: Iterable[Any], mapping: Any, steps: int | None, name: str
) -> tuple[Task, list[Side]]:
    """The task, and every trainer at its start.

    Raises:
        LockstepError: as of `verify`.
    """
    trainers = trainers if isinstance(trainers, Sequence) else (trainers,)
    if len(trainers) < 2:
        raise AdoptionError(
            "there is nothing to compare with", f"{len(trainers)} trainers", "give a list of two or more"
        )
    for one in trainers:
        check_trainer("what is to be compared", one)
    task = task_of(trainers, batches, steps, name)
    sides = masked(sides_of(_names(trainers), trainers, _mappings(trainers, task, mapping)), task)
    refuse_other_draws(sides, task)
    return task, sides


def _names(trainers: Sequence[Adopted]) -> list[str]:
    """Their names, numbered where two have the same."""
    names: list[str] = []
    for one in trainers:
        taken = sum(name.split(" ")[0] == one.name for name in names)
        names.append(f"{one.name} {taken + 1}" if taken else one.name)
    return names


def _mappings(trainers: Sequence[Adopted], task: Task, given: Any) -> list[Mapping]:
    others = trainers[1:]
    if given is None:
        return [find_mapping(trainers[0], one, task.data) for one in others]
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(several) != len(others):
        raise AdoptionError(
            "there are not as many mappings as trainers beside the first",
            f"{len(several)} for {len(others)}",
            "give one for each, in the order of the trainers",
        )
    return [Mapping.of(one) for one in several]


def _run(side: Side, task: Task) -> Run:
    """One run; what the user's code raises is a finding about it, randomness is refused."""
    blank = Run(task.name, task.dtype, side.name)
    try:
        # As the framework holds it after it was written, in the reference's layout.
        read = side.trainer.read(side.begin())
        given = {
            f"initial/{name}": Fingerprint.of(value) for name, value in side.canonical(held(read)).items()
        }
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run is judged by its numbers
            trace, seconds = train(side, task)
    except AdoptionError:
        raise
    except Exception as error:
        return dataclasses.replace(blank, verdict=Verdict.ERROR, reason=describe(error))
    environment = dict(side.trainer.environment())
    if side.masks is not None:
        environment["masks"] = "drawn by Lockstep, the same for all sides"
    return dataclasses.replace(blank, trace=trace, given=given, environment=environment, seconds=seconds)


class _Ran(NamedTuple):
    """A side that trained, and what it ended with under the reference's names."""

    run: Run
    trace: Trace
    ends: Arrays


def _judged(task: Task, sides: Sequence[Side], runs: Sequence[Run], tolerance: Judge) -> Case:
    trained = [
        _Ran(run, run.trace, side.canonical(held(run.trace.final)))
        for side, run in zip(sides, runs, strict=True)
        if run.trace is not None
    ]
    compared = [
        one
        for left, right in itertools.combinations(trained, 2)
        for one in _compared(task, sides[0], left, right, tolerance)
    ]
    return Case(task, tuple(runs), tuple(compared), tolerance)


def _compared(task: Task, first: Side, left: _Ran, right: _Ran, tolerance: Judge) -> Iterator[Comparison]:
    """What both were given, every step's loss, and every parameter and buffer that is linked on both sides."""
    blank = Comparison(task.name, task.dtype, left.run.backend, right.run.backend, INPUTS, Verdict.AGREE)
    # A buffer of one side alone, a running average that the other keeps in another form, is not compared.
    linked = [name for name in first.shapes if name in left.ends and name in right.ends]
    start = held(first.start)
    expected = {f"initial/{name}": Fingerprint.of(start[name]) for name in linked}
    given = [
        dataclasses.replace(run, given={name: one for name, one in run.given.items() if name in expected})
        for run in (left.run, right.run)
    ]
    yield compare_inputs(blank, expected, *given)
    blank = dataclasses.replace(blank, tolerance=tolerance)
    loss = dataclasses.replace(blank, quantity=LOSS, unit="step")
    losses = [compare_arrays(loss, left.trace.losses, right.trace.losses, (task.steps,), task.dtype)]
    yield from without_vacuous(losses, {LOSS: left.trace.losses})
    found = [
        compare_arrays(
            dataclasses.replace(blank, quantity=name),
            left.ends[name],
            right.ends[name],
            first.shapes[name],
            task.dtype,
        )
        for name in linked
    ]
    names = first.start.parameters.keys() & set(linked)
    moved = any(not np.array_equal(start[name], one.ends[name]) for name in names for one in (left, right))
    yield from without_vacuous(found, left.ends) if moved else map(_untrained, found)


def _untrained(one: Comparison) -> Comparison:
    """Of a run that moves no parameter: what is equal is what both were given."""
    if one.verdict is not Verdict.AGREE:
        return one
    reason = "no step of either side moves any parameter: gradients and updates could not have differed"
    return dataclasses.replace(one, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _told(run: Run, side: Side) -> Run:
    """A run as it is reported: its parameters under the reference's names, unless they are many."""
    if run.trace is None:
        return run
    final = side.canonical(run.trace.final.parameters)
    told = final if sum(value.size for value in final.values()) <= MOST_TOLD else {}
    trace = Trace(run.trace.losses, dataclasses.replace(run.trace.final, parameters=told))
    return dataclasses.replace(run, trace=trace)
