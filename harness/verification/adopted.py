"""Verification of a user's own trainers: prepare them, then train, judge and diagnose them like any other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.factories import check_trainer
from lockstep.harness.adopt.implementation import AdoptedCode, compared_alike, implementations
from lockstep.harness.adopt.names import numbered
from lockstep.harness.adopt.randomness import check_repeats, refuse_other_draws
from lockstep.harness.adopt.side import Side, held, sides_of
from lockstep.harness.adopt.summed import with_sums
from lockstep.harness.adopt.task import Task, task_of
from lockstep.harness.core.compare import (
    LOSS,
    Comparison,
    Expected,
    Fingerprint,
    Run,
    compare_counts,
    compare_runs,
)
from lockstep.harness.core.distance import is_whole
from lockstep.harness.core.tolerance import FIXED, Judge, choose
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose import diagnosis
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.matching.find import find_mapping
from lockstep.harness.matching.masks import masked
from lockstep.harness.numerics import limits
from lockstep.harness.numerics.budget import measure_by_inputs
from lockstep.harness.runs.free_run import describe, free_run
from lockstep.harness.runs.trajectory import trajectory
from lockstep.harness.verification.conventions import Optimizers
from lockstep.harness.verification.decision import decided, is_wanted
from lockstep.harness.verification.doubts import doubted, doubts
from lockstep.harness.verification.parity import DIAGNOSED
from lockstep.harness.verification.precision import (
    differing,
    narrow_places,
    not_widened,
    widened,
    without_rounding,
)
from lockstep.harness.verification.remapping import mapping_explanations
from lockstep.harness.verification.result import Case, LeftOut, ParityError, Result
from lockstep.harness.verification.split import sum_explanations
from lockstep.harness.verification.states import compared_states, left_out

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
    require_all: bool = False,
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
        diagnose: ``none``, ``differing`` or ``all``: when to find where they first differ. The verdict is the same: where the
            whole runs decide nothing, the lockstep run is made in any case.
        name: of the run in reports.
        require_all: INCONCLUSIVE where buffers or an optimizer's state of one side have no counterpart on another; by default
            the verdict is about the rest, and its first line names what was left out.

    Raises:
        LockstepError: the trainers cannot be compared: other dtypes, a mapping that does not fit, random numbers.
    """
    if diagnose not in DIAGNOSED:
        raise AdoptionError("unknown cases to diagnose", repr(diagnose), f"give {', '.join(DIAGNOSED)}")
    spec, sides = prepared(trainers, batches, mapping, steps, name)
    case, codes = _judged_case(spec, sides, choose(spec.dtype, rtol, atol, tolerance))
    case = decided(case, list(_diagnoses(spec, codes, case, diagnose)), diagnose)
    shown = tuple(reported(run) for run in case.runs)
    return Result((dataclasses.replace(case, runs=shown, require_all=require_all),))


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
    spec, sides = prepared(trainers, batches, mapping, steps, name)
    case, codes = _judged_case(spec, sides, None)
    lost = diagnosis.untrained(spec, [one.name for one in codes], case.runs[:2])
    return lost or next(_diagnoses(spec, codes, case, "all"))


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
    mappings = _mappings(trainers, task, mapping)
    trainers = _with_sums(trainers, mappings, task)
    sides = masked(sides_of(numbered(one.name for one in trainers), trainers, mappings), task)
    sides = [check_repeats(side, task) for side in sides]
    refuse_other_draws(sides, task)
    return task, sides


def _with_sums(trainers: Sequence[Adopted], mappings: Sequence[Mapping], task: Task) -> list[Adopted]:
    """The trainers, with the parameters that the mappings name as sums of two."""
    left = [one.left for mapping in mappings for one in mapping.links]
    right = [[one.right for one in mapping.links] for mapping in mappings]
    return [with_sums(*one, task.data[0]) for one in zip(trainers, (left, *right), strict=True)]


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
    return [_with_buffers(one, trainers[0], other) for one, other in zip(several, others, strict=True)]


def _with_buffers(given: Any, left: Adopted, right: Adopted) -> Mapping:
    """The mapping; one that names pairs alone also links the buffers that both sides have under one name and in one shape.

    A `Mapping` is taken as it is: what it leaves out was left out on purpose.
    """
    mapping = Mapping.of(given)
    if isinstance(given, Mapping):
        return mapping
    linked = {name for one in mapping.links for name in (one.left, one.right)}
    ours, theirs = (one.read(one.init()).buffers for one in (left, right))
    same = [
        Link(name, name, by="name")
        for name, value in sorted(ours.items())
        if name not in linked and name in theirs and theirs[name].shape == value.shape
    ]
    return dataclasses.replace(mapping, links=(*mapping.links, *same))


def _judged_case(
    spec: Task, sides: Sequence[Side], tolerance: Judge | None
) -> tuple[Case, list[AdoptedCode]]:
    """The runs of all sides, judged; those of float64 that differ and compute in float32 somewhere, with that in float64."""
    codes = implementations(sides)
    case = _judged_runs(spec, codes, tolerance)
    if not differing(case):
        return case, codes
    places: tuple[LeftOut, ...] = ()
    try:
        places = narrow_places(sides, spec)
        if not places:
            return case, codes
        wide_codes = implementations(widened(sides, places, spec))
        again = _judged_runs(spec, wide_codes, tolerance)
    except LockstepError as error:
        return not_widened(case, places, error.got), codes
    failed = [run.reason for run in again.runs if run.trace is None]
    if failed:
        return not_widened(case, places, failed[0]), codes
    return without_rounding(again, case, places), wide_codes


def _judged_runs(spec: Task, codes: Sequence[AdoptedCode], tolerance: Judge | None) -> Case:
    """All sides' runs, compared; without a tolerance by the fixed one, and where that fails by what rounding is measured to do."""
    runs = [free_run(one, spec) for one in codes]
    case = _judged(spec, codes, runs, tolerance or FIXED[spec.dtype], tolerance is not None)
    if tolerance is None and any(one.verdict is Verdict.DIFFER for one in case.comparisons):
        return _judged(spec, codes, runs, measure_by_inputs(spec, codes))
    return case


def _judged(
    spec: Task,
    codes: Sequence[AdoptedCode],
    runs: Sequence[Run],
    tolerance: Judge,
    by_convention: bool = True,
) -> Case:
    trained = [(code, run) for code, run in zip(codes, runs, strict=True) if run.trace is not None]
    first, compared, states = codes[0].side, list[Comparison](), dict[str, set[str]]()
    for (code, left), (other, right) in itertools.combinations(trained, 2):
        compared += _compared(spec, first, left, right, tolerance)
        blank = Comparison(spec.name, spec.dtype, left.backend, right.backend, LOSS, Verdict.AGREE)
        kept = compared_states(blank, left, right, tolerance, Optimizers(spec, code, other), by_convention)
        compared += kept.comparisons
        for run, names in zip((left, right), zip(*kept.pairs, strict=True), strict=False):
            states.setdefault(run.backend, set()).update(names)
    notes = [
        note
        for code in codes[1:]
        if code.side.mapping is not None
        for note in doubts(code.side.mapping, first.name, code.name)
    ]
    listed = left_out([run for _, run in trained], states)
    return Case(spec, tuple(runs), tuple(compared), tolerance, notes=tuple(notes), left_out=listed)


def _compared(spec: Task, first: Side, left: Run, right: Run, tolerance: Judge) -> list[Comparison]:
    """Inputs, losses, and every parameter and buffer that both sides have."""
    start, ends = held(first.start), (_ends(left), _ends(right))
    common = [
        name
        for name in first.shapes
        if all(name in end for end in ends) and not all(is_whole(end[name]) for end in ends)
    ]
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
    return [
        *compare_runs(spec, sides[0], sides[1], tolerance, expected),
        *compare_counts(spec, left, right),
    ]


def _ends(run: Run) -> Arrays:
    assert run.trace is not None
    return held(run.trace.final)


def _diagnoses(spec: Task, codes: Sequence[AdoptedCode], case: Case, diagnose: str) -> Iterator[Diagnosis]:
    """The wanted diagnoses of other sides that trained, against the reference; all further sides are witnesses."""
    reference, *others = zip(codes, case.runs, strict=True)
    wanted = [
        code
        for code, run in others
        if run.trace is not None and is_wanted(case, reference[0].name, code.name, diagnose)
    ]
    if reference[1].trace is None or not wanted:
        return
    growth = limits.of_judge(case.tolerance, trajectory(reference[1].trace))
    # Whole steps and those that have halves are limited by different stages; each is asked for once.
    stages = cache(
        lambda whole: limits.of_stage(spec, dataclasses.replace(reference[0], undivided=whole).trainer(spec))
    )
    for code, run in others:
        if code not in wanted:
            continue
        pair = compared_alike((reference[0], code))
        witnesses = [
            compared_alike((pair[0], one))[1]
            for one, its in others
            if one is not code and its.trace is not None and one.undivided <= pair[0].undivided
        ]
        try:
            found = diagnosis.investigate(
                spec,
                pair,
                (reference[1], run),
                _loaded(witnesses),
                limits=stages(pair[0].undivided),
                growth=growth,
                explanations=(
                    *sum_explanations(*pair),
                    *EXPLANATIONS,
                    *mapping_explanations(*pair),
                ),
            )
            yield found if code.side.mapping is None else doubted(found, code.side.mapping)
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
