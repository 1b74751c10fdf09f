"""The pytest plugin: verify in a test, parametrise over backends, report what a whole run compared.

pytest loads it in every environment that has Lockstep, so it imports neither our packages nor a framework before a test
asks for a fixture or an option for a report. docs/pytest.md is its manual.
"""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from lockstep.backends.errors import LockstepError
    from lockstep.backends.problem import Problem
    from lockstep.harness.runs.workers import Chosen
    from lockstep.harness.verification.result import Result

PARAMETERS = {
    "problems": "lockstep_problem",
    "backends": "lockstep_backend",
    "dtypes": "lockstep_dtype",
}
"""Argument of the marker -> the fixture that it parametrises."""

FIXTURES = frozenset({"lockstep", "lockstep_module", "lockstep_session", *PARAMETERS.values()})
MARKER = (
    "lockstep(problems=..., backends=..., dtypes=...): run the test once for each, as lockstep_problem, "
    "lockstep_backend and lockstep_dtype; backends and dtypes that are not requested are what `lockstep` verifies"
)
NOTHING_VERIFIED = "every test that verifies was skipped, so nothing was verified"


OPTIONS: tuple[tuple[str, str, Literal["string", "args", "bool"], dict[str, Any], str], ...] = (
    (
        "report",
        "report",
        "string",
        {"metavar": "DIR"},
        "write every comparison of the run into one report here",
    ),
    (
        "backend",
        "backends",
        "args",
        {"action": "append", "metavar": "NAME"},
        "a backend to verify where a test names none; repeat it; default: all",
    ),
    (
        "dtype",
        "dtypes",
        "args",
        {"action": "append", "metavar": "DTYPE"},
        "float64 or float32, where a test names none; repeat it; default: both",
    ),
    (
        "tolerance",
        "tolerance",
        "string",
        {"metavar": "KIND"},
        "budget, measured on each problem (the default), or fixed",
    ),
    (
        "allow-skipped",
        "allow_skipped",
        "bool",
        {"action": "store_true"},
        "let a run pass in which every test that verifies was skipped",
    ),
)
"""The option, its ini value and that value's type, its argparse arguments, and what both mean."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, each with an ini value as its default."""
    group = parser.getgroup("lockstep", "lockstep: do frameworks train the same?")
    for option, ini, kind, arguments, words in OPTIONS:
        group.addoption(f"--lockstep-{option}", **arguments, help=f"{words} (ini: lockstep_{ini})")
        parser.addini(f"lockstep_{ini}", words, type=kind)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker and the plugin of the run; refuses an option's value before anything is collected."""
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(_Run(config), _Run.NAME)
    try:
        for key in ("backends", "dtypes", "tolerance"):
            if values := _setting(config, key):
                _options().check(key, values)
    except Exception as error:
        raise pytest.UsageError(str(error)) from error


def _setting(config: pytest.Config, key: str) -> Any:
    """The value of an option, or else of the ini file; empty where neither is set."""
    option, ini = next((option, ini) for option, ini, *_ in OPTIONS if ini == key)
    return config.getoption(f"lockstep_{option.replace('-', '_')}") or config.getini(f"lockstep_{ini}")


def _options() -> ModuleType:
    """`lockstep.harness.suite.options`, imported on first use."""
    from lockstep.harness.suite import options

    return options


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test once for each problem, backend and dtype that it requests."""
    marker = metafunc.definition.get_closest_marker("lockstep")
    requested = FIXTURES.intersection(metafunc.fixturenames)
    if not requested and (marker is None or PARAMETERS.keys().isdisjoint(marker.kwargs)):
        return  # a marker of this name may be another project's
    try:
        values = _values(metafunc.config, _named(marker), requested)
    except Exception as error:
        pytest.fail(f"{metafunc.definition.nodeid}: {error}", pytrace=False)
    for key, ones in values.items():
        parameters = [pytest.param(one, id=_id(one), marks=_marks(key, one)) for one in ones]
        metafunc.parametrize(PARAMETERS[key], parameters, indirect=True)


def _values(config: pytest.Config, named: dict[str, Any], requested: Collection[str]) -> dict[str, list[Any]]:
    """The values that a test runs over: those of the marker, else of the options, else all."""
    if ("problems" in named) != ("lockstep_problem" in requested):
        raise TypeError(
            "the marker names problems, but the test does not request lockstep_problem"
            if "problems" in named
            else "the test requests lockstep_problem, but no marker names problems"
        )
    keys = [key for key, fixture in PARAMETERS.items() if fixture in requested]
    return {key: list(named.get(key) or _setting(config, key) or _options().DEFAULTS[key]) for key in keys}


def _named(marker: pytest.Mark | None) -> dict[str, Any]:
    """The marker's arguments, each checked.

    Raises:
        TypeError: one that it does not have.
        LockstepError: one that is not valid.
    """
    if marker is None:
        return {}
    if marker.args or not set(marker.kwargs) <= set(PARAMETERS):
        got = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in PARAMETERS)]
        raise TypeError(
            f"the marker lockstep takes {', '.join(f'{key}=[...]' for key in PARAMETERS)}, not {got}"
        )
    for key, values in marker.kwargs.items():
        _options().check(key, values)
    return dict(marker.kwargs)


def _id(one: Any) -> str:
    """A problem's, backend's or dtype's name."""
    return str(getattr(one, "name", one))


def _marks(key: str, one: Any) -> list[pytest.MarkDecorator]:
    """A skip, with its reason and the command that ends it, for a backend whose framework is absent."""
    reason = _options().absent(one) if key == "backends" else ""
    return [pytest.mark.skip(reason=reason)] if reason else []


@pytest.fixture
def lockstep_problem(request: pytest.FixtureRequest) -> Problem:
    """One of the problems that the marker `lockstep` names."""
    from lockstep.backends.errors import DatasetUnavailableError
    from lockstep.backends.problem import Problem
    from lockstep.harness.problems import find

    try:
        return request.param if isinstance(request.param, Problem) else find(request.param)
    except DatasetUnavailableError as error:
        pytest.skip(_reason(error))


@pytest.fixture
def lockstep_backend(request: pytest.FixtureRequest) -> Chosen:
    """One of the backends that the marker `lockstep` names, or of all."""
    backend: Chosen = request.param
    return backend


@pytest.fixture
def lockstep_dtype(request: pytest.FixtureRequest) -> str:
    """One of the dtypes that the marker `lockstep` names, or of both."""
    dtype: str = request.param
    return dtype


def _reason(error: LockstepError) -> str:
    return f"{error.what}: {error.got}; {error.fix}"


class Lockstep:
    """The fixture `lockstep`: verification whose results count in the run and appear in its report."""

    def __init__(self, run: _Run, node: Any) -> None:
        self._run = run
        self._owner = node.nodeid or "session"
        self._marker = node.get_closest_marker("lockstep")
        self.failed: list[Result] = []

    def verify(self, problems: Any, **options: Any) -> Result:
        """Call `lockstep.verify` with the options of the test run; by default with a diagnosis of what differs.

        A test is skipped if a requested backend did not train and nothing worse happened.
        """
        __tracebackhide__ = True
        requested = _options()
        from lockstep import Verdict, verify
        from lockstep.backends.errors import DatasetUnavailableError, LockstepError

        try:
            result = verify(problems, **{**self._defaults(), **options})
        except DatasetUnavailableError as error:
            pytest.skip(_reason(error))
        except LockstepError as error:
            raise error.with_traceback(None) from None  # its message says what was wrong
        self._run.record(self._owner, result)
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(requested.untrained(result))
        if result.verdict is not Verdict.AGREE:
            self.failed.append(result)
        return result

    def assert_parity(self, problems: Any, **options: Any) -> Result:
        """`verify`, that fails unless everything agrees, with the census and the first divergence.

        Raises:
            ParityError: not everything agrees.
        """
        __tracebackhide__ = True
        from lockstep import ParityError, Verdict

        result = self.verify(problems, **options)
        if result.verdict is not Verdict.AGREE:
            raise ParityError(result)
        return result

    def _defaults(self) -> dict[str, Any]:
        named = _named(self._marker)
        chosen = {key: named.get(key) or _setting(self._run.config, key) for key in ("backends", "dtypes")}
        chosen["tolerance"] = _setting(self._run.config, "tolerance")
        return {"diagnose": "differing", **{key: value for key, value in chosen.items() if value}}


def _lent(request: pytest.FixtureRequest) -> Iterator[Lockstep]:
    run: _Run = request.config.pluginmanager.get_plugin(_Run.NAME)  # type: ignore[assignment]
    lent = Lockstep(run, request.node)
    run.lent.append(lent)
    yield lent
    run.lent.remove(lent)


@pytest.fixture
def lockstep(request: pytest.FixtureRequest) -> Iterator[Lockstep]:
    """Verifies problems: `lockstep.verify(...)` and `lockstep.assert_parity(...)`."""
    yield from _lent(request)


@pytest.fixture(scope="module")
def lockstep_module(request: pytest.FixtureRequest) -> Iterator[Lockstep]:
    """`lockstep` for fixtures that the tests of a module share."""
    yield from _lent(request)


@pytest.fixture(scope="session")
def lockstep_session(request: pytest.FixtureRequest) -> Iterator[Lockstep]:
    """`lockstep` for fixtures that all tests share."""
    yield from _lent(request)


def _verifies(item: pytest.Item) -> bool:
    """Whether it requests one of our fixtures; another project's may have the same name."""
    names = FIXTURES.intersection(getattr(item, "fixturenames", ()))
    known: dict[str, Any] = (
        getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {}) if names else {}
    )
    return any(known[name][-1].func.__module__ == __name__ for name in names if name in known)


class _Run:
    """The results of a test run: in each process its own, in the process that the user started all of them."""

    NAME = "lockstep-run"
    _SPOOL = "lockstep_spool"

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.lent: list[Lockstep] = []
        self._worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._recorded = 0
        self._unsent: list[str] = []
        self._verdicts: Counter[str] = Counter()
        self._ran = False
        self._skipped: dict[str, None] = {}
        self._written: list[Path] = []
        self._failure = ""
        self._report = self._target()
        self._spool = self._opened()

    def _target(self) -> Path | None:
        """Where the report goes, checked before anything runs; None in a process that another one started."""
        if self._worker is not None:
            return None
        if not (folder := _setting(self.config, "report")):
            return None
        _options()
        from lockstep.harness.documents.files import FileError, writable_folder

        option = self.config.getoption("lockstep_report")
        try:
            return writable_folder(
                (self.config.invocation_params.dir if option else self.config.rootpath) / folder
            )
        except FileError as error:
            raise pytest.UsageError(str(error)) from error

    def _opened(self) -> Path | None:
        """The folder in which every process records its results until the end; None without a report."""
        if self._worker is not None:
            spool = self._worker.get(self._SPOOL)
            return Path(spool) if spool else None
        if self._report is None:
            return None
        folder = tempfile.TemporaryDirectory(prefix="lockstep-")
        self.config.add_cleanup(folder.cleanup)
        return Path(folder.name)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Passes the folder for results on to a process of pytest-xdist."""
        node.workerinput[self._SPOOL] = str(self._spool) if self._spool else ""

    def record(self, owner: str, result: Result) -> None:
        """Count a result, and record it if there will be a report."""
        self._unsent += [str(case.verdict) for case in result.cases]
        if self._spool is not None:
            from lockstep.harness.suite.merged import Recorded

            worker = self._worker["workerid"] if self._worker else "main"
            Recorded(owner, worker, self._recorded, result).write(self._spool)
            self._recorded += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Sends what a test verified along with its outcome: the process that the user started counts it."""
        report = yield
        if self._unsent or _verifies(item):
            report.lockstep, self._unsent = self._unsent, []
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Counts outcomes and verdicts."""
        verdicts: list[str] | None = getattr(report, "lockstep", None)
        if verdicts is None:
            return
        self._verdicts.update(verdicts)
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._skipped[reason.removeprefix("Skipped: ")] = None
        elif report.failed or report.when == "call":
            self._ran = True

    @property
    def _vacuous(self) -> bool:
        """Whether tests would have verified and none did."""
        allowed = self.config.getoption("lockstep_allow_skipped") or self.config.getini(
            "lockstep_allow_skipped"
        )
        return bool(self._skipped) and not self._ran and not allowed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes the report; a run that verified nothing, or whose report is lost, does not pass."""
        if self._report is not None and not self.config.getoption("collectonly"):
            self._write(self._report)
        if session.exitstatus == pytest.ExitCode.OK and (self._failure or self._vacuous) and not self._worker:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self, folder: Path) -> None:
        from lockstep.harness.documents.files import FileError
        from lockstep.harness.suite.merged import write

        assert self._spool is not None
        command = shlex.join(["pytest", *map(str, self.config.invocation_params.args)])
        try:
            self._written = write(folder, self._spool, command)
        except FileError as error:
            self._failure = str(error)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The number of cases that agree, the path of the report, and why a run without a failure does not pass."""
        lines = []
        if total := sum(self._verdicts.values()):
            others = ", ".join(f"{n} {one}" for one, n in sorted(self._verdicts.items()) if one != "AGREE")
            lines.append(f"{self._verdicts['AGREE']} of {total} cases agree{f'; {others}' if others else ''}")
        if self._written:
            from lockstep.harness.publish.folder import (
                sentence,
            )

            lines += sentence(self._written).splitlines()
        if lines:
            terminalreporter.section("lockstep", sep="-")
        for line in lines:
            terminalreporter.write_line(line)
        if self._failure:
            terminalreporter.write_line(f"ERROR: lockstep: {self._failure}", red=True)
        if self._vacuous:
            why = " / ".join(self._skipped)
            terminalreporter.write_line(
                f"ERROR: lockstep: {NOTHING_VERIFIED} ({why}); --lockstep-allow-skipped accepts that",
                red=True,
            )

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """The census, and the first divergence in it, of the result whose verdict an assertion refused."""
        for lent in reversed(self.lent):
            for result in reversed(lent.failed):
                if any(one is result.verdict for one in (left, right)):
                    return [f"{left!s} {op} {right!s}", *result.census().splitlines()]
        return None
