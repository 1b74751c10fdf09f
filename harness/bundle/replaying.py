"""Replay: retrain on this machine and compare with the recording, as `verify` compares two backends."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockstep import backends as registry
from lockstep.backends.adoption import Adopted
from lockstep.backends.errors import UnknownNameError
from lockstep.backends.problem import Problem
from lockstep.harness import bundle as bundles
from lockstep.harness.adopt.task import task_of
from lockstep.harness.bundle import Bundle, BundleError, Recorded, RecordedProblem, RecordedTask
from lockstep.harness.bundle.code import code_of
from lockstep.harness.bundle.replay_run import RECORDED, Subject, replay_run
from lockstep.harness.bundle.side import check_dtype, side_of
from lockstep.harness.bundle.subjects import of_problem, of_task, shared
from lockstep.harness.core.compare import Run
from lockstep.harness.core.tolerance import choose
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.numerics.budget import Notify, no_op
from lockstep.harness.problems.document import describe
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.workers import Chosen
from lockstep.harness.verification.adopted import reported
from lockstep.harness.verification.parity import Wanted, distinct_backends, distinct_problems
from lockstep.harness.verification.result import Case, Result


@dataclass(frozen=True)
class Replayed(Result):
    """The result of a replay.

    Attributes:
        recorded: the environment in which the bundle was recorded.
        here: that of the replay.
    """

    recorded: Mapping[str, Any] = field(default_factory=dict)
    here: Mapping[str, Any] = field(default_factory=dict)


def replay(
    source: Bundle | str | Path,
    *,
    backends: Iterable[Chosen] | None = None,
    problems: Iterable[Wanted] = (),
    tolerance: str = "budget",
    rtol: float | None = None,
    atol: float | None = None,
    progress: Callable[[Run], None] = lambda run: None,
    notify: Notify = no_op,
) -> Replayed:
    """Retrain what a bundle recorded, and compare with the recording.

    Inputs and batches are compared to the bit, the loss of every step, the parameters after recorded steps and what the run
    ended with within the tolerance. The stages of a recorded step are computed here from the recorded state, and the
    recorded gradients are applied, so that they say where the difference arises, and not only that there is one.

    Args:
        source: a bundle, or the path of one.
        backends: registered names or backends, each of which is compared with every recorded run; by default each run is
            repeated on its own.
        problems: the problems whose data the bundle does not hold.
        tolerance: ``budget`` or ``fixed``, as in `verify`.
        rtol, atol: |recorded − here| ≤ atol + rtol·|recorded| instead.
        progress: called with each run as it finishes.
        notify: called with a sentence before a budget that will take long.

    Raises:
        LockstepError: the bundle is not valid, or a name, a problem or a tolerance is not. Nothing was trained.
    """
    bundle = source if isinstance(source, Bundle) else bundles.load(source)
    if bundle.task is not None:
        raise BundleError(
            "it was recorded of a trainer of somebody's own code, which no bundle holds",
            ", ".join(shortened(one.run.backend) for one in bundle.runs),
            "give that trainer with --trainer MODULE:FUNCTION, or to lockstep.replay_adopted",
        )
    named = None if backends is None else distinct_backends(backends)
    trained = [_problem(one, given) for one, given in _with_given(bundle, problems)]
    grouped: dict[tuple[int, str], list[Recorded]] = {}
    for one in bundle.runs:
        _check_known(one.run.backend, named)
        _check_length(one, trained[one.problem])
        grouped.setdefault((one.problem, one.run.dtype), []).append(one)
    prepared = [
        (trained[index].replace(dtype=dtype), choose(dtype, rtol, atol, tolerance), runs)
        for (index, dtype), runs in grouped.items()
    ]
    cases = []
    for problem, given, runs in prepared:
        pairs = itertools.product(runs, named) if named else ((one, one.run.backend) for one in runs)
        cases.append(_case(of_problem(problem, given, notify), pairs, progress))
    return _replayed(bundle, cases)


def replay_adopted(
    source: Bundle | str | Path,
    trainer: Adopted,
    batches: Iterable[Any],
    *,
    mapping: Any = None,
    tolerance: str = "budget",
    rtol: float | None = None,
    atol: float | None = None,
) -> Replayed:
    """Train an adopted trainer from the recorded start, on the same batches, and compare with the recording.

    The hash of every batch and the start are compared to the bit, the loss of every step, the parameters after recorded steps and
    at the end within the tolerance. The stages of a recorded step are computed here from the recorded parameters.

    Args:
        source: what `record_adopted` gave or wrote.
        trainer: what ``adopt`` of a backend gives.
        batches: pairs (x, y), one a step, as they were recorded.
        mapping: from the recorded names to this trainer's, a `lockstep.harness.adopt.Mapping` or a dict; by default they are the same.
        tolerance: ``fixed``, or ``budget``: where the fixed one fails, what rounding can do is measured here.
        rtol, atol: |recorded − here| ≤ atol + rtol·|recorded| instead.

    Raises:
        LockstepError: the bundle is not valid, or the trainer or the batches cannot be compared with it. Nothing was trained.
    """
    bundle = source if isinstance(source, Bundle) else bundles.load(source)
    recorded = _task_of(bundle)
    (one,) = bundle.runs
    given = choose(recorded.dtype, rtol, atol, tolerance)
    check_dtype(recorded, trainer)
    task = task_of([trainer], batches, recorded.steps, recorded.name)
    code = code_of(side_of(recorded, one, trainer, task, mapping), one)
    pair = shared(one, recorded.batches, code), code
    case = _case(of_task(recorded, task, code, given), [pair], lambda run: None)
    return _replayed(bundle, [dataclasses.replace(case, runs=tuple(reported(run) for run in case.runs))])


def _case(
    subject: Subject,
    pairs: Iterable[tuple[Recorded, str | Implementation]],
    progress: Callable[[Run], None],
) -> Case:
    """Every recorded run of one problem in one dtype, with whoever repeats it."""
    replayed = []
    for recorded, chosen in pairs:
        replayed.append(replay_run(subject, recorded, chosen))
        progress(replayed[-1].right)
    runs = {run.backend: run for one in replayed for run in (one.left, one.right)}
    return Case(
        subject.spec,
        tuple(runs.values()),
        tuple(row for one in replayed for row in one.comparisons),
        replayed[-1].tolerance,
        diagnoses=tuple(one.diagnosis for one in replayed if one.diagnosis),
    )


def _replayed(bundle: Bundle, cases: Sequence[Case]) -> Replayed:
    environments = {
        run.backend: dict(run.environment)
        for case in cases
        for run in case.runs
        if run.environment and not run.backend.endswith(RECORDED)
    }
    return Replayed(tuple(cases), recorded=bundle.environment, here={**manifest(), "backends": environments})


def _task_of(bundle: Bundle) -> RecordedTask:
    if bundle.task is None:
        raise BundleError(
            "it was recorded of problems, not of a trainer of your own",
            ", ".join(shortened(one.document["name"]) for one in bundle.problems[:3]),
            "replay it without --trainer",
        )
    return bundle.task


def _check_known(backend: str, named: Sequence[Chosen] | None) -> None:
    """A bundle's own backend is asked for only where no other is."""
    if named is None and backend not in registry.known():
        raise UnknownNameError(
            "it was recorded on a backend that is not registered here",
            shortened(backend),
            f"name another with --backend: {', '.join(registry.known())}",
        )


def _check_length(one: Recorded, problem: Problem) -> None:
    """A problem that was given together with the bundle may have other data, and so another number of batches."""
    assert one.run.trace is not None
    if len(one.run.trace.losses) != problem.steps:
        raise BundleError(
            f"problem {problem.name!r} has another number of steps than was recorded",
            f"{problem.steps} steps, {len(one.run.trace.losses)} recorded losses",
            "give the problem that was recorded",
        )


def _with_given(bundle: Bundle, problems: Iterable[Wanted]) -> list[tuple[RecordedProblem, Problem | None]]:
    """Each of the bundle's problems with the one of its name that was given, if any was."""
    given = {one.name: one for one in distinct_problems(problems)}
    pairs = [(one, given.pop(one.document["name"], None)) for one in bundle.problems]
    if given:
        raise BundleError("the bundle is of no such problem", ", ".join(map(repr, given)), "leave it out")
    return pairs


def _problem(recorded: RecordedProblem, given: Problem | None) -> Problem:
    """What is trained: the bundle's own problem, or the one that was given, where it is the same."""
    name = shortened(recorded.document["name"])
    if given is None:
        if recorded.problem is None:
            raise BundleError(
                f"the bundle holds only hashes of the data of problem {name}",
                "no data",
                "name the problem, or its file, with --problem",
            )
        return recorded.problem
    document = describe(given.replace(epochs=recorded.document.get("epochs", given.epochs)))
    if other := [
        key for key in document.keys() | recorded.document if document.get(key) != recorded.document.get(key)
    ]:
        raise BundleError(
            f"another problem {name} was recorded",
            f"it differs in {', '.join(sorted(other))}",
            "give that one",
        )
    return given.replace(epochs=recorded.document["epochs"])
