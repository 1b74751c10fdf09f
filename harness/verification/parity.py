"""Verification: train every problem on every backend in every dtype, and judge."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

import numpy as np

from lockstep import backends as registry
from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import DTYPES, Array, Problem
from lockstep.harness.core.compare import (
    INPUTS,
    LOSS,
    Comparison,
    Run,
    compare_runs,
    expected_inputs,
)
from lockstep.harness.core.distance import ratio
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import FIXED, Judge, Tolerance, choose, scaled
from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.diagnose import diagnosis
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.numerics.budget import Say, measure, silent
from lockstep.harness.numerics.certified import Certified, own_errors, truth_of
from lockstep.harness.problems import find
from lockstep.harness.runs.workers import Chosen, Trainers, in_background, in_process, name_of

P = ParamSpec("P")

Wanted = Problem | str | Path
"""A problem, the name of one in the catalogue, or the path of a problem file."""


@dataclass(frozen=True)
class Case:
    """One problem in one dtype, on all backends.

    Attributes:
        problem: what was trained: a problem, or a task of adopted code.
        runs: one per backend that was asked for.
        comparisons: every quantity of every pair of runs that trained.
        tolerance: what they were judged by.
        certified: each backend's own error, where that was asked for.
        diagnoses: where backends first part from the first that trained, where that was asked for.
    """

    problem: RunSpec
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    tolerance: Judge
    certified: Certified | None = None
    diagnoses: tuple[Diagnosis, ...] = ()

    @property
    def trained(self) -> list[Run]:
        """The runs that have a trace."""
        return [run for run in self.runs if run.trace is not None]

    @property
    def verdict(self) -> Verdict:
        """The most severe of its comparisons and runs; INCONCLUSIVE if nothing was compared.

        A stage of a single step that parts is a difference, too, where the whole runs show none.
        """
        shortfall = [run.verdict for run in self.runs if run.trace is None]
        parted = [one.verdict for one in self.diagnoses if one.verdict is Verdict.DIFFER]
        return combine([*(one.verdict for one in self.comparisons), *shortfall, *parted])

    @property
    def reason(self) -> str:
        """Why it does not agree, in one sentence; empty where it does."""
        if self.verdict is Verdict.AGREE:
            return ""
        for one in self.comparisons:
            if one.verdict is self.verdict:
                return f"{one.quantity}, {one.left} against {one.right}: {one.reason}"
        for run in self.runs:
            if run.verdict is self.verdict:
                return f"{run.backend}: {run.reason}"
        for found in self.diagnoses:
            if found.verdict is self.verdict:
                return found.sentence
        return f"{len(self.trained)} backend trained; two are needed to compare"

    @property
    def limits(self) -> Array:
        """The largest distance of two losses that passes, over max(|loss|, |first loss|); (steps,), or none at all."""
        for run in self.trained:
            assert run.trace is not None
            losses = np.where(np.isfinite(run.trace.losses), run.trace.losses, 0.0)
            judged = self.tolerance.scale(losses, True)
            if judged.shape == (self.problem.steps,):
                return ratio(self.tolerance.limit(LOSS, judged), scaled(losses, True))
        return np.zeros(0)

    @property
    def distances(self) -> Array:
        """The largest distance between any two losses of each step, over max(|loss|, |first loss|); (steps,).

        NaN where fewer than two runs have a finite loss.
        """
        losses = [run.trace.losses for run in self.trained if run.trace is not None]
        steps = max((len(one) for one in losses), default=0)
        table = np.full((max(len(losses), 1), steps), np.nan)
        for row, one in zip(table, losses, strict=False):
            row[: len(one)] = np.where(np.isfinite(one), one, np.nan)
        usable = np.isfinite(table).sum(axis=0) >= 2
        spread = np.full(steps, np.nan)
        if usable.any():
            part = table[:, usable]
            scale = np.nanmax(
                np.abs(np.concatenate([part, np.broadcast_to(table[:, :1], part.shape)])), axis=0
            )
            spread[usable] = ratio(np.nanmax(part, axis=0) - np.nanmin(part, axis=0), scale)
        return spread


@dataclass(frozen=True)
class Result:
    """Everything that one verification found."""

    cases: tuple[Case, ...]

    @property
    def verdict(self) -> Verdict:
        """The most severe of all cases."""
        return combine(case.verdict for case in self.cases)

    @property
    def runs(self) -> list[Run]:
        """All runs of all cases."""
        return [run for case in self.cases for run in case.runs]

    @property
    def comparisons(self) -> list[Comparison]:
        """All comparisons of all cases."""
        return [one for case in self.cases for one in case.comparisons]

    def census(self) -> str:
        """Every case that does not agree, and in it every quantity that failed, one line each."""
        lines = [f"{self.verdict}: {len(self.cases)} cases, {len(self.comparisons)} comparisons"]
        for case in self.cases:
            if case.verdict is not Verdict.AGREE:
                lines.append(f"{case.problem.name} {case.problem.dtype}: {case.verdict}: {case.reason}")
                lines += [f"  {found.sentence}" for found in case.diagnoses]
                lines += [f"  {_line(one)}" for one in case.comparisons if one.verdict is not Verdict.AGREE]
                lines += [f"  {run.backend}: {run.verdict}: {run.reason}" for run in case.runs if run.reason]
        return "\n".join(lines)


def _line(one: Comparison) -> str:
    text = f"{one.left} / {one.right}  {one.quantity}: {one.verdict}: {one.reason}"
    if one.worst is None or one.quantity == INPUTS:
        return text
    index = ", ".join(map(str, one.worst.index))
    return (
        f"{text}; {one.failing} of {one.elements} failing; worst at {one.unit} {index}: {one.worst.left!r} against "
        f"{one.worst.right!r} (relative {one.worst.relative:.2g}, scaled {one.worst.scaled:.2g}, "
        f"{one.worst.ulps} ULP); passes with rtol {one.smallest_rtol:.2g}"
    )


DIAGNOSED = ("none", "differing", "all")
"""Which cases are diagnosed."""


class ParityError(AssertionError):
    """Not everything agrees. The message is the census; `result` has all of it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.census())
        self.result = result


def verify(
    problems: Wanted | Iterable[Wanted],
    *,
    backends: Iterable[Chosen] | None = None,
    dtypes: Iterable[str] = DTYPES,
    epochs: int | None = None,
    tolerance: str = "budget",
    rtol: float | None = None,
    atol: float | None = None,
    certify: bool = False,
    diagnose: str = "none",
    trainers: Trainers = in_process,
    progress: Callable[[Run], None] = lambda run: None,
    say: Say = silent,
) -> Result:
    """Train and judge.

    Args:
        problems: one or several: a Problem, a name of the catalogue, or the path of a problem file.
        backends: registered names or backends; by default all that are registered, and one that cannot run
            here is SKIPPED, which is not agreement.
        dtypes: ``float64`` and ``float32`` by default.
        epochs: instead of each problem's own.
        tolerance: ``budget``: measured on each problem by disturbed twins of the reference (`lockstep.harness.numerics.budget`);
            ``fixed``: the same for all problems of a dtype (`lockstep.harness.core.tolerance.FIXED`).
        rtol, atol: |left − right| ≤ atol + rtol·|left| instead.
        certify: whether to tell each backend's own error against the true trajectory (`lockstep.harness.numerics.certified`).
        diagnose: in which cases to find where backends first part (`lockstep.diagnose`): ``none``, ``differing``
            (those that do not agree), or ``all``.
        trainers: how the runs are made: `lockstep.harness.runs.workers.in_process` or `side_by_side`.
        progress: called with each run as it finishes.
        say: called with a sentence before a budget or a truth that will take long.

    Raises:
        LockstepError: a name, a problem or a tolerance is not valid; nothing was trained.
    """
    chosen = distinct_backends(backends)
    wanted = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    prepared = [_prepared(one, dtype, epochs) for one in distinct_problems(wanted) for dtype in dtypes]
    given = [choose(problem.dtype, rtol, atol, tolerance) for problem in prepared]
    if diagnose not in DIAGNOSED:
        raise ProblemError("unknown cases to diagnose", repr(diagnose), f"give {', '.join(DIAGNOSED)}")
    runs: dict[tuple[str, str, str], Run] = {}
    # Beside the training, which is done by other processes when it is done side by side.
    measured = in_background(
        lambda: (
            [judge_of(*one, say) for one in zip(prepared, given, strict=True)],
            [truth_of(problem, say) for problem in prepared if certify],
        )
    )
    for run in trainers(chosen, prepared):
        runs[run.problem, run.dtype, run.backend] = run
        progress(run)
    tolerances, truths = measured()
    cases = [
        _judge(problem, [runs[problem.name, problem.dtype, name_of(one)] for one in chosen], tolerance)
        for problem, tolerance in zip(prepared, tolerances, strict=True)
    ]
    if certify:
        cases = [
            dataclasses.replace(case, certified=own_errors(truth, case.runs))
            for case, truth in zip(cases, truths, strict=True)
        ]
    return Result(
        tuple(
            _diagnosed(problem, case, chosen, diagnose) for problem, case in zip(prepared, cases, strict=True)
        )
    )


def _asserting(judge: Callable[P, Result]) -> Callable[P, Result]:
    def assert_parity(*args: P.args, **kwargs: P.kwargs) -> Result:
        """`verify`, with the same arguments, that raises unless the verdict is AGREE.

        Raises:
            ParityError: with the census of what differs or could not be judged.
        """
        result = judge(*args, **kwargs)
        if result.verdict is not Verdict.AGREE:
            raise ParityError(result)
        return result

    return assert_parity


assert_parity = _asserting(verify)
"""`verify`, with the same arguments, that raises unless the verdict is AGREE.

Raises:
    ParityError: with the census of what differs or could not be judged.
"""


def distinct_backends(backends: Iterable[Chosen] | None) -> list[Chosen]:
    """The chosen backends, each once; unknown names are refused."""
    chosen: dict[str, Chosen] = {name_of(one): one for one in backends or registry.entries()}
    for one in chosen.values():
        if isinstance(one, str):
            registry.entry(one)
    return list(chosen.values())


def distinct_problems(wanted: Iterable[Wanted]) -> list[Problem]:
    """The problems themselves; two of one name could not be told apart in a report."""
    problems: dict[str, Problem] = {}
    for one in wanted:
        problem = one if isinstance(one, Problem) else find(one)
        if problem.name in problems:
            raise ProblemError(
                "two problems have one name", repr(problem.name), "rename one, or ask for it once"
            )
        problems[problem.name] = problem
    return list(problems.values())


def _prepared(problem: Problem, dtype: str, epochs: int | None) -> Problem:
    return problem.replace(dtype=dtype, epochs=problem.epochs if epochs is None else epochs)


def judge_of(problem: Problem, given: Tolerance | None, say: Say, steps: int | None = None) -> Judge:
    """What was given; else the budget, and the fixed tolerance where the reference cannot train the problem.

    Args:
        problem: in its dtype.
        given: the user's tolerance, or the fixed one where that was asked for.
        say: is told how long a budget will take where that is long.
        steps: the budget of only so many steps, 1 or more.
    """
    return given or measure(problem, say=say, steps=steps) or FIXED[problem.dtype]


def _judge(problem: Problem, runs: Sequence[Run], tolerance: Judge) -> Case:
    return Case(problem, tuple(runs), tuple(_pairs(problem, runs, tolerance)), tolerance)


def _diagnosed(problem: Problem, case: Case, chosen: Sequence[Chosen], diagnose: str) -> Case:
    """The case with a diagnosis of each backend that trained against the first that did, if that is wanted."""
    wanted = diagnose == "all" or (diagnose == "differing" and case.verdict is not Verdict.AGREE)
    trained = {run.backend for run in case.trained}
    if not wanted or len(trained) < 2:
        return case
    reference, *others = [one for one in chosen if name_of(one) in trained]
    found = (diagnosis.diagnose(problem, one, reference) for one in others)
    return dataclasses.replace(case, diagnoses=tuple(found))


def _pairs(problem: Problem, runs: Sequence[Run], tolerance: Judge) -> Iterator[Comparison]:
    trained = [run for run in runs if run.trace is not None]
    expected = expected_inputs(problem)  # once: hashing a million rows costs what an epoch does
    for left, right in itertools.combinations(trained, 2):
        yield from compare_runs(problem, left, right, tolerance, expected)
