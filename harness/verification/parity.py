"""Verification: train every problem on every backend in every dtype, and judge."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec

from lockstep import backends as registry
from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import DTYPES, Problem
from lockstep.harness.core.compare import Comparison, Run, compare_runs, expected_of
from lockstep.harness.core.tolerance import FIXED, Judge, Tolerance, choose
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose import diagnosis
from lockstep.harness.numerics.budget import Notify, measure, no_op
from lockstep.harness.numerics.certified import own_errors, truth_of
from lockstep.harness.problems import find
from lockstep.harness.runs.workers import Chosen, Trainers, in_background, in_process, name_of
from lockstep.harness.verification.decision import decided, is_wanted
from lockstep.harness.verification.result import Case, ParityError, Result

P = ParamSpec("P")

Wanted = Problem | str | Path
"""A problem, the name of one in the catalogue, or the path of a problem file."""


DIAGNOSED = ("none", "differing", "all")
"""Which cases are diagnosed."""


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
    notify: Notify = no_op,
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
        certify: whether to report each backend's own error against a proven trajectory (`lockstep.harness.numerics.certified`).
        diagnose: in which cases to find where backends first diverge (`lockstep.diagnose`): ``none``, ``differing``
            (those that do not agree), or ``all``. The verdict is the same: where the whole runs decide nothing, the lockstep run
            is made in any case.
        trainers: how the runs are made: `lockstep.harness.runs.workers.in_process` or `lockstep.harness.runs.processes.side_by_side`.
        progress: called with each run as it finishes.
        notify: called with a sentence before a budget or a truth that will take long.

    Raises:
        LockstepError: a name, a problem or a tolerance is not valid; nothing was trained.
    """
    chosen = distinct_backends(backends)
    wanted = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    prepared = [_prepared(one, dtype, epochs) for one in distinct_problems(wanted) for dtype in dtypes]
    chosen_tolerances = [choose(problem.dtype, rtol, atol, tolerance) for problem in prepared]
    if diagnose not in DIAGNOSED:
        raise ProblemError("unknown cases to diagnose", repr(diagnose), f"give {', '.join(DIAGNOSED)}")
    runs: dict[tuple[str, str, str], Run] = {}
    # During the training, which other processes do where it is done side by side.
    measured = in_background(
        lambda: (
            [judge_of(*one, notify) for one in zip(prepared, chosen_tolerances, strict=True)],
            [truth_of(problem, notify) for problem in prepared if certify],
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
    """The chosen backends, each once; unknown names are refused, and so is a choice of none."""
    named = list(registry.entries() if backends is None else backends)
    if not named:
        raise ProblemError(
            "there is no backend to train on",
            "an empty choice",
            "name two or more, or give none for all of them",
        )
    chosen: dict[str, Chosen] = {name_of(one): one for one in named}
    for one in chosen.values():
        if isinstance(one, str):
            registry.entry(one)
    return list(chosen.values())


def distinct_problems(wanted: Iterable[Wanted]) -> list[Problem]:
    """The problems themselves; two of one name could not be distinguished in a report."""
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


def judge_of(
    problem: Problem, tolerance: Tolerance | None, notify: Notify, steps: int | None = None
) -> Judge:
    """The user's tolerance; else the budget, and the fixed tolerance where the reference cannot train the problem.

    Args:
        problem: in its dtype.
        tolerance: the user's, or the fixed one where that was asked for.
        notify: is called with how long a budget will take where that is long.
        steps: the budget of only so many steps, 1 or more.
    """
    return tolerance or measure(problem, notify=notify, steps=steps) or FIXED[problem.dtype]


def _judge(problem: Problem, runs: Sequence[Run], tolerance: Judge) -> Case:
    return Case(problem, tuple(runs), tuple(_pairs(problem, runs, tolerance)), tolerance)


def _diagnosed(problem: Problem, case: Case, chosen: Sequence[Chosen], diagnose: str) -> Case:
    """The case with a diagnosis of each backend that trained against the first that did, where that is wanted or decides."""
    trained = {run.backend for run in case.trained}
    if len(trained) < 2:
        return case
    reference, *others = [one for one in chosen if name_of(one) in trained]
    wanted = [one for one in others if is_wanted(case, name_of(reference), name_of(one), diagnose)]
    return decided(case, [diagnosis.diagnose(problem, one, reference) for one in wanted], diagnose)


def _pairs(problem: Problem, runs: Sequence[Run], tolerance: Judge) -> Iterator[Comparison]:
    trained = [run for run in runs if run.trace is not None]
    expected = expected_of(problem)  # once: hashing a million rows costs what an epoch does
    for left, right in itertools.combinations(trained, 2):
        yield from compare_runs(problem, left, right, tolerance, expected)
