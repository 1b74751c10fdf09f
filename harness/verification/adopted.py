"""Verification of a user's own trainers: prepare them, then train, judge and diagnose them like any other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.factories import check_trainer
from lockstep.harness.adopt.implementation import AdoptedCode, implementations
from lockstep.harness.adopt.randomness import check_repeats, refuse_other_draws
from lockstep.harness.adopt.side import Side, held, sides_of
from lockstep.harness.adopt.task import Task, task_of
from lockstep.harness.core.compare import Comparison, Expected, Fingerprint, Run, compare_counts, compare_runs
from lockstep.harness.core.tolerance import FIXED, Judge, choose
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose import diagnosis
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.matching.find import find_mapping
from lockstep.harness.matching.masks import masked
from lockstep.harness.numerics import limits
from lockstep.harness.numerics.budget import measure_by_inputs
from lockstep.harness.runs.free_run import describe, free_run
from lockstep.harness.runs.trajectory import trajectory
from lockstep.harness.verification.parity import DIAGNOSED
from lockstep.harness.verification.remapping import mapping_explanations
from lockstep.harness.verification.result import Case, ParityError, Result

MOST_REPORTED = 10_000
"""The most final parameters that a run carries into the report; a larger model's are compared, but not reported."""


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
        tolerance: ``fixed``, or ``budget``: where the fixed one fails, the effect of rounding is measured on all sides
            (`lockstep.harness.numerics.budget.measure_by_inputs`) and becomes the tolerance.
        rtol, atol: |left − right| ≤ atol + rtol·|left| instead.
        diagnose: ``none``, ``differing`` or ``all``: when to find where they first differ.
        name: of the run in reports.

    Raises:
        LockstepError: the trainers cannot be compared: other dtypes, a mapping that does not fit, random numbers.
    """
    if diagnose not in DIAGNOSED:
        raise AdoptionError("unknown cases to diagnose", repr(diagnose), f"give {', '.join(DIAGNOSED)}")
    spec, sides = prepared(trainers, batches, mapping, steps, name)
    chosen = choose(spec.dtype, rtol, atol, tolerance)
    codes = implementations(sides)
    runs = [free_run(one, spec) for one in codes]
    case = _judged(spec, sides, runs, chosen or FIXED[spec.dtype])
    if chosen is None and any(one.verdict is Verdict.DIFFER for one in case.comparisons):
        case = _judged(spec, sides, runs, measure_by_inputs(spec, codes))
    if diagnose == "all" or (diagnose == "differing" and case.verdict is not Verdict.AGREE):
        case = dataclasses.replace(case, diagnoses=tuple(_diagnoses(spec, codes, case)))
    return Result((dataclasses.replace(case, runs=tuple(reported(run) for run in runs)),))


def assert_parity(trainers: Sequence[Adopted], batches: Iterable[Any], **settings: Any) -> Result:
    """`verify`, with the same arguments, that raises unless the verdict is AGREE.

    Raises:
        ParityError: with the census of what differs or could not be judged.
    """
    result = verify(trainers, batches, **settings)
    if result.verdict is not Verdict.AGREE:
        raise ParityError(result)
    return result


def diagnose(
    trainers: Sequence[Adopted],
    batches: Iterable[Any],
    *,
    mapping: Any = None,
    steps: int | None = None,
    name: str = "adopted",
) -> Diagnosis:
    """Where the second trainer first differs from the first, which of them is wrong, and by which mistake.

    Args:
        trainers: the reference, the other, and any number of witnesses that vote on which side is wrong.
        batches, mapping, steps, name: as of `verify`.

    Raises:
        LockstepError: as of `verify`.
    """
    if len(trainers) < 2:
        raise AdoptionError(
            "a diagnosis is of two trainers", f"{len(trainers)}", "give the reference and the other"
        )
    (case,) = verify(trainers, batches, mapping=mapping, steps=steps, diagnose="all", name=name).cases
    names = [run.backend for run in case.runs]
    lost = diagnosis.untrained(case.problem, names, case.runs[:2])
    return lost or case.diagnoses[0]


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
        check_trainer("a trainer to compare", one)
    task = task_of(trainers, batches, steps, name)
    sides = masked(sides_of(_names(trainers), trainers, _mappings(trainers, task, mapping)), task)
    sides = [check_repeats(side, task) for side in sides]
    refuse_other_draws(sides, task)
    return task, sides


def _names(trainers: Sequence[Adopted]) -> list[str]:
    """Their names, numbered where two have the same."""
    names: list[str] = []
    for one in trainers:
        taken = sum(name.split(" ")[0] == one.name for name in names)
        names.append(f"{one.name} {taken + 1}" if taken else one.name)
    return names


def _mappings(trainers: Sequence[Adopted], task: Task, mapping: Any) -> list[Mapping]:
    others = trainers[1:]
    if mapping is None:
        return [find_mapping(trainers[0], one, task.data) for one in others]
    several = list(mapping) if isinstance(mapping, (list, tuple)) else [mapping]
    if len(several) != len(others):
        raise AdoptionError(
            "there are not as many mappings as trainers after the first",
            f"{len(several)} for {len(others)}",
            "give one for each, in the order of the trainers",
        )
    return [Mapping.of(one) for one in several]


def _judged(spec: Task, sides: Sequence[Side], runs: Sequence[Run], tolerance: Judge) -> Case:
    trained = [run for run in runs if run.trace is not None]
    compared = [
        one
        for left, right in itertools.combinations(trained, 2)
        for one in _compared(spec, sides[0], left, right, tolerance)
    ]
    return Case(spec, tuple(runs), tuple(compared), tolerance)


def _compared(spec: Task, first: Side, left: Run, right: Run, tolerance: Judge) -> list[Comparison]:
    """Inputs, losses, and every parameter and buffer that both sides have."""
    start = held(first.start)
    common = [name for name in first.shapes if name in _ends(left) and name in _ends(right)]
    expected = Expected(
        {f"initial/{name}": Fingerprint.of(start[name]) for name in common},
        {name: first.shapes[name] for name in common},
        {name: value for name, value in first.start.parameters.items() if name in common},
    )
    sides = [
        dataclasses.replace(
            run, given={name: one for name, one in run.given.items() if name in expected.inputs}
        )
        for run in (left, right)
    ]
    compared = compare_runs(spec, sides[0], sides[1], tolerance, expected)
    return [*compared, *compare_counts(spec, left, right)]


def _ends(run: Run) -> Arrays:
    assert run.trace is not None
    return held(run.trace.final)


def _diagnoses(spec: Task, codes: Sequence[AdoptedCode], case: Case) -> Iterator[Diagnosis]:
    """The diagnoses of every other side that trained, against the reference; all further sides are witnesses."""
    reference, *others = zip(codes, case.runs, strict=True)
    if reference[1].trace is None:
        return
    growth = limits.of_judge(case.tolerance, trajectory(reference[1].trace))
    stages = limits.of_stage(spec, reference[0].trainer(spec))
    for code, run in others:
        if run.trace is None:
            continue
        witnesses = [one for one, its in others if one is not code and its.trace is not None]
        try:
            yield diagnosis.investigate(
                spec,
                (reference[0], code),
                (reference[1], run),
                _loaded(witnesses),
                limits=stages,
                growth=growth,
                explanations=(*EXPLANATIONS, *mapping_explanations(reference[0], code)),
            )
        except (
            Exception
        ) as error:  # an exception of the user's code is a finding about it, not the harness' end
            names = reference[0].name, code.name
            sentence = f"{' or '.join(names)} failed outside its run: {describe(error)}"
            yield Diagnosis(spec, *names, Verdict.ERROR, diagnosis.Kind.UNJUDGED, sentence)


def _loaded(witnesses: Sequence[AdoptedCode]) -> Callable[[], Sequence[AdoptedCode]]:
    return lambda: witnesses


def reported(run: Run) -> Run:
    """A run for the report: with its parameters, unless they are many."""
    if run.trace is None:
        return run
    final = run.trace.final
    many = sum(value.size for value in final.parameters.values()) > MOST_REPORTED
    trace = Trace(
        run.trace.losses,
        dataclasses.replace(
            final, parameters={} if many else final.parameters, buffers={}, optimizer={}, extra={}
        ),
    )
    return dataclasses.replace(run, trace=trace)
