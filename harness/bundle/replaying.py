"""Replay: train here what was recorded there, and compare as `verify` compares two backends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockstep import backends as registry
from lockstep.backends.errors import UnknownNameError
from lockstep.backends.problem import Problem
from lockstep.harness import bundle as bundles
from lockstep.harness.bundle import Bundle, BundleError, Kept, Recorded
from lockstep.harness.bundle.replay_run import RECORDED, Judges, rerun
from lockstep.harness.core.compare import Run
from lockstep.harness.core.tolerance import choose
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.numerics.budget import Say, silent
from lockstep.harness.problems.document import describe, shortened
from lockstep.harness.runs.workers import Chosen
from lockstep.harness.verification.parity import (
    Case,
    Result,
    Wanted,
    distinct_backends,
    distinct_problems,
)


@dataclass(frozen=True)
class Replayed(Result):
    """What a replay found.

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
    say: Say = silent,
) -> Replayed:
    """Train what a bundle recorded, and judge whether the same comes of it.

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
        say: called with a sentence before a budget that will take long.

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
    trained = [_problem(one, given) for one, given in _beside(bundle, problems)]
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
        judges = Judges(problem, given, say)
        pairs = itertools.product(runs, named) if named else ((one, one.run.backend) for one in runs)
        cases.append(_case(problem, judges, pairs, progress))
    here = {one.backend: dict(one.environment) for case in cases for one in case.runs if one.environment}
    ours = {name: told for name, told in here.items() if not name.endswith(RECORDED)}
    return Replayed(tuple(cases), recorded=bundle.environment, here={**manifest(), "backends": ours})


def _case(
    problem: Problem,
    judges: Judges,
    pairs: Iterable[tuple[Recorded, Chosen]],
    progress: Callable[[Run], None],
) -> Case:
    """Every recorded run of one problem in one dtype against every backend that repeats it."""
    reruns = []
    for recorded, chosen in pairs:
        reruns.append(rerun(problem, recorded, chosen, judges))
        progress(reruns[-1].right)
    runs = {run.backend: run for one in reruns for run in (one.left, one.right)}
    return Case(
        problem,
        tuple(runs.values()),
        tuple(row for one in reruns for row in one.comparisons),
        judges.at(problem.steps),
        diagnoses=tuple(one.diagnosis for one in reruns if one.diagnosis),
    )


def _check_known(backend: str, named: Sequence[Chosen] | None) -> None:
    """A bundle's own backend is asked for only where no other is."""
    if named is None and backend not in registry.known():
        raise UnknownNameError(
            "it was recorded on a backend that is not registered here",
            shortened(backend),
            f"name another with --backend: {', '.join(registry.known())}",
        )


def _check_length(one: Recorded, problem: Problem) -> None:
    """A problem that was given beside the bundle may have other data, and so another number of batches."""
    assert one.run.trace is not None
    if len(one.run.trace.losses) != problem.steps:
        raise BundleError(
            f"problem {problem.name!r} has another number of steps than was recorded",
            f"{problem.steps} steps, {len(one.run.trace.losses)} recorded losses",
            "give the problem that was recorded",
        )


def _beside(bundle: Bundle, problems: Iterable[Wanted]) -> list[tuple[Kept, Problem | None]]:
    """Each of the bundle's problems with the one of its name that was given, if any was."""
    given = {one.name: one for one in distinct_problems(problems)}
    pairs = [(one, given.pop(one.document["name"], None)) for one in bundle.problems]
    if given:
        raise BundleError("the bundle is of no such problem", ", ".join(map(repr, given)), "leave it out")
    return pairs


def _problem(kept: Kept, given: Problem | None) -> Problem:
    """What is trained: the bundle's own problem, or the one that was given, where it is the same."""
    name = shortened(kept.document["name"])
    if given is None:
        if kept.problem is None:
            raise BundleError(
                f"the bundle holds only hashes of the data of problem {name}",
                "no data",
                "name the problem, or its file, with --problem",
            )
        return kept.problem
    told = describe(given.replace(epochs=kept.document.get("epochs", given.epochs)))
    if other := [key for key in told.keys() | kept.document if told.get(key) != kept.document.get(key)]:
        raise BundleError(
            f"another problem {name} was recorded",
            f"it differs in {', '.join(sorted(other))}",
            "give that one",
        )
    return given.replace(epochs=kept.document["epochs"])
