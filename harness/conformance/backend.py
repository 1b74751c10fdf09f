"""All checks on one backend: together, or one by one for a test suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import DTYPES, Problem
from lockstep.backends.protocol import Backend
from lockstep.harness.conformance.check import BrokenRule, Check
from lockstep.harness.conformance.checks import CHECKS
from lockstep.harness.conformance.outcome import Outcome, Report
from lockstep.harness.conformance.problems import PROBLEMS
from lockstep.harness.conformance.subject import Subject
from lockstep.harness.core.nonconformity import Nonconformity
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import RAISED, describe


@dataclass(frozen=True)
class Case:
    """One check on one problem: what a test is made of.

    Attributes:
        check: which rule.
        subject: the backend and the problem.
    """

    check: Check
    subject: Subject

    @property
    def where(self) -> str:
        """The problem and its dtype."""
        return label(self.subject.problem)

    @property
    def id(self) -> str:
        """What a test suite calls it."""
        return f"{self.check.name}-{self.where}"

    def run(self) -> None:
        """Check.

        Raises:
            Nonconformity: the rule is broken; an AssertionError, so that a test fails.
        """
        where = f"{self.subject.backend.name}, {self.where}: check {self.check.name!r}"
        expected = self.check.reason
        try:
            self.check.run(self.subject)
            return
        except BrokenRule as broken:
            found, expected = broken.found, broken.expected
        except RAISED as error:  # whatever a backend raises is a finding about it
            found = describe(error)
        raise Nonconformity(f"{where}: expected {expected}", found, self.check.mend)


def label(problem: Problem) -> str:
    """A problem and its dtype."""
    return f"{problem.name} {problem.dtype}"


def cases(backend: Backend, checks: Iterable[Check] = CHECKS) -> Iterator[Case]:
    """Every check on every problem that it is about and that the backend trains, as far as it claims what is needed."""
    subjects = list(trained(backend))
    for check in checks:
        yield from (Case(check, one) for one in wanted(check, subjects, backend))


def check_backend(
    backend: Backend, checks: Iterable[Check] = CHECKS, watch: Callable[[str], None] = lambda what: None
) -> Report:
    """Hold a backend to the protocol.

    Args:
        backend: as its class is constructed; it need not be registered.
        checks: all by default.
        watch: called with the name of each check before it begins.

    Raises:
        LockstepError: there is nothing that could be called a backend.
    """
    for needed in ("supports", "trainer"):
        if isinstance(backend, type) or not callable(getattr(backend, needed, None)):
            raise LockstepError(
                f"what is to be checked is no object with a method {needed!r}",
                repr(backend),
                "give an object with the methods of lockstep.backends.protocol.Backend, made, not its class",
            )
    watch("`supports` and `trainer`")
    subjects = list(trained(backend))
    capabilities = {name for one in subjects for name in one.capabilities}
    return Report(
        str(getattr(backend, "name", "")),
        tuple(sorted(capabilities)),
        tuple(_outcome(check, subjects, backend, watch) for check in checks),
        tuple(label(one.problem) for one in subjects),
        tuple(_refused(backend)),
    )


def problems() -> Iterator[Problem]:
    """All problems in all dtypes."""
    for make in PROBLEMS.values():
        yield from (make().replace(dtype=dtype) for dtype in DTYPES)


def trained(backend: Backend) -> Iterator[Subject]:
    """The backend on each problem that it says it trains."""
    yield from (Subject(backend, problem) for problem in problems() if _refusal(backend, problem) is None)


def _refusal(backend: Backend, problem: Problem) -> str | None:
    """Why it does not train a problem; what `supports` itself does wrong is found by a check of its own."""
    try:
        refused = backend.supports(problem)
    except RAISED as error:
        return f"`supports` raises {describe(error)}"
    return None if refused is None else str(getattr(refused, "reason", refused))


def _refused(backend: Backend) -> Iterator[tuple[str, str]]:
    for problem in problems():
        if (reason := _refusal(backend, problem)) is not None:
            yield label(problem), reason


def wanted(check: Check, subjects: list[Subject], backend: Backend) -> list[Subject]:
    """The subjects that a check is made on."""
    if not check.problems:  # not about a problem: one that it trains if there is one
        return [*subjects, Subject(backend, next(problems()))][:1]
    about = {make().name for name, make in PROBLEMS.items() if name in check.problems}
    return [one for one in subjects if one.problem.name in about and check.needs <= one.capabilities]


def _outcome(
    check: Check, subjects: list[Subject], backend: Backend, watch: Callable[[str], None]
) -> Outcome:
    found = [Case(check, one) for one in wanted(check, subjects, backend)]
    if not found:
        lacking = check.needs - {name for one in subjects for name in one.capabilities}
        reason = (
            f"not claimed: {', '.join(sorted(lacking))}" if lacking else "it trains no problem of this kind"
        )
        return Outcome(check, Verdict.SKIPPED, skipped=reason)
    failures = []
    for case in found:
        watch(f"check {check.name!r} on {case.where}")
        try:
            case.run()
        except Nonconformity as error:
            failures.append((case.where, error))
    verdict = Verdict.DIFFER if failures else Verdict.AGREE
    return Outcome(check, verdict, tuple(case.where for case in found), tuple(failures))
