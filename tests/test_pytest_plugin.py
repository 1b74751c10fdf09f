"""The pytest plugin, run by pytester as a project of its own would run it."""

import json
import re
import sys
from pathlib import Path

import jsonschema
import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401 - pytester takes out again what a run in this process was the first to import
import pytest

import lockstep
import lockstep.backends.exact.backend
from lockstep import backends, pytest_plugin
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.harness.documents.schema import load
from lockstep.harness.suite.merged import Recorded, merged, read
from tests import blocks
from tests.conftest import BACKENDS
from tests.meta import faults

pytest_plugins = ["pytester"]

PRELUDE = """
import pytest
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.harness.problems import find

class Twin(NumPyBackend):
    name = "twin"

PAIR = ["numpy", Twin()]
SEED = find("seed").replace(epochs=3)
"""
BROKEN = """
from tests.meta import faults
WRONG = ["numpy", faults.Broken(faults.ForgottenBias)]
"""
QUIET = ("-p", "no:randomly", "-p", "no:benchmark", "-p", "no:cacheprovider")
# Plugins that import numpy themselves.
OTHERS = ("-p", "no:hypothesispytest", "-p", "no:jaxtyping")
FOREIGN = (
    "lockstep.backends",
    "lockstep.harness",
    "numpy",
    "scipy",
    "jax",
    "torch",
    "flint",
    "rich",
    "jsonschema",
)


@pytest.fixture(autouse=True)
def at_a_desk(monkeypatch):
    """In CI pytest cuts no explanation."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


class Frameworks:
    """Sees to it that no run within this process is the first to import one of them: pytester takes out again what was
    imported, and neither can be imported twice."""

    def pytest_configure(self):
        self.before = {"jax", "torch"} & sys.modules.keys()

    def pytest_unconfigure(self):
        assert {"jax", "torch"} & sys.modules.keys() == self.before


@pytest.fixture
def inprocess(pytester):
    """Runs pytest in this process."""
    pytester.plugins.append(Frameworks())
    return lambda *arguments: pytester.runpytest_inprocess(*QUIET, *arguments)


@pytest.fixture
def pytest_run(pytester, inprocess):
    """Runs tests, given as source behind PRELUDE, in this process."""

    def run(source, *arguments, prelude=PRELUDE):
        pytester.makepyfile(prelude + source)
        return inprocess(*arguments)

    return run


def content(pytester, folder="out"):
    """The report, once it is what the schema says."""
    document = json.loads((pytester.path / folder / "parity.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, load("report"))
    return document


def named(document):
    return [(case["problem"], case["dtype"], case["verdict"]) for case in document["cases"]]


# What a run costs that does not use it.


def test_a_foreign_run_imports_nothing_of_ours(pytester):
    """Not by being loaded, nor for --help, --markers and --fixtures."""
    pytester.makepyfile("def test_foreign(): assert sum([1, 1]) == 2")
    pytester.makeconftest(
        f"""
import sys
def pytest_unconfigure(config):
    print("plugin", "lockstep.pytest_plugin" in sys.modules, "found", [one for one in {FOREIGN} if one in sys.modules])
"""
    )
    for arguments in ((), ("--help",), ("--markers",), ("--fixtures",)):
        done = pytester.runpytest_subprocess(*QUIET, *OTHERS, *arguments)
        assert done.ret == 0
        assert "plugin True found []" in done.stdout.str()


# The fixture.


def test_what_agrees_passes_and_is_counted(pytest_run):
    done = pytest_run(
        """
def test_asserted(lockstep):
    result = lockstep.assert_parity(SEED, backends=PAIR)
    assert len(result.cases) == 2

def test_verified(lockstep):
    assert lockstep.verify(SEED, backends=PAIR, dtypes=["float32"]).verdict == "AGREE"
"""
    )
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["*- lockstep -*", "3 of 3 cases agree"])
    assert "report:" not in done.stdout.str()


def test_what_differs_fails_by_the_census_and_the_first_divergence(pytest_run):
    done = pytest_run(
        BROKEN
        + """
def test_asserted(lockstep):
    lockstep.assert_parity(SEED, backends=WRONG, dtypes=["float64"])
"""
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            '>   *lockstep.assert_parity(SEED, backends=WRONG, dtypes=[[]"float64"[]])',
            "E  *ParityError: DIFFER: 1 cases, 4 comparisons",
            "E  *seed float64: DIFFER: loss, numpy against broken: *",
            "E  *broken first diverges from numpy at step 0, in the update of 0.linear/b*",
            "E  *numpy / broken  0.linear/b: DIFFER: *worst at index 0: *",
            "0 of 1 cases agree; 1 DIFFER",
        ]
    )
    text = done.stdout.str()
    assert "array(" not in text
    for inner in ("harness/verification/parity.py", "lockstep/pytest_plugin.py", "raise ParityError"):
        assert inner not in text
    assert len(text.splitlines()) < 45


@pytest.mark.parametrize(
    "assertion",
    [
        "assert lockstep.verify(SEED, backends=WRONG, dtypes=['float64']).verdict == 'AGREE'",
        "assert lockstep.verify(SEED, backends=WRONG, dtypes=['float64']).verdict is Verdict.AGREE",
        "assert 'AGREE' == shared.verdict",
    ],
)
def test_a_refused_verdict_is_explained(pytest_run, assertion):
    done = pytest_run(
        BROKEN
        + f"""
from lockstep import Verdict

@pytest.fixture(scope="module")
def shared(lockstep_module):
    return lockstep_module.verify(SEED, backends=WRONG, dtypes=["float64"])

def test_verdict(lockstep, shared):
    {assertion}
"""
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "E  *assert *DIFFER*",
            "E  *seed float64: DIFFER: loss, numpy against broken*",
            "E  *broken first diverges from numpy at step 0, in the update of 0.linear/b*",
        ]
    )


def test_assertions_about_something_else_are_left_to_pytest(pytest_run):
    done = pytest_run(
        BROKEN
        + """
from lockstep import Verdict

def test_other(lockstep):
    lockstep.verify(SEED, backends=WRONG)
    assert Verdict.ERROR == "AGREE"
"""
    )
    done.assert_outcomes(failed=1)
    assert "first diverges" not in done.stdout.str()


def test_a_mistake_is_told_in_three_parts_without_our_traceback(pytest_run):
    done = pytest_run("def test_name(lockstep): lockstep.assert_parity('sede')")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["E *UnknownNameError: unknown problem", "E *got: 'sede'", "E *fix: did you mean 'seed'*"]
    )
    assert "harness/problems" not in done.stdout.str()


# Options and ini values.


@pytest.mark.parametrize(
    ("arguments", "ini", "shown"),
    [
        (("--lockstep-dtype", "float32"), "", "['float32'] budget"),
        ((), "lockstep_dtypes = float64", "['float64'] budget"),
        (("--lockstep-dtype", "float32"), "lockstep_dtypes = float64", "['float32'] budget"),
        ((), "lockstep_tolerance = fixed", "['float64', 'float32'] fixed"),
        (("--lockstep-tolerance", "budget"), "lockstep_tolerance = fixed", "['float64', 'float32'] budget"),
    ],
)
def test_the_option_wins_over_the_ini_value(pytester, pytest_run, arguments, ini, shown):
    pytester.makeini(f"[pytest]\n{ini}")
    chosen = ("--lockstep-backend", "numpy", "--lockstep-backend", "exact")
    done = pytest_run(
        """
def test_defaults(lockstep):
    result = lockstep.verify(SEED)
    dtypes = [case.problem.dtype for case in result.cases]
    print("found", {run.backend for run in result.runs} == {"numpy", "exact"}, dtypes, result.cases[0].tolerance.kind)
    assert result.verdict == "AGREE"
""",
        "-s",
        *chosen,
        *arguments,
    )
    done.assert_outcomes(passed=1)
    assert f"found True {shown}" in done.stdout.str()


def test_the_test_wins_over_both_and_the_marker_over_the_option(pytester, pytest_run):
    pytester.makeini("[pytest]\nlockstep_backends = numpy exact\nlockstep_dtypes = float64")
    done = pytest_run(
        """
@pytest.mark.lockstep(backends=PAIR, dtypes=["float32"])
def test_marked(lockstep):
    result = lockstep.assert_parity(SEED)
    assert [run.backend for run in result.runs] == ["numpy", "twin"]
    assert [case.problem.dtype for case in result.cases] == ["float32"]

@pytest.mark.lockstep(backends=["exact"])
def test_argument(lockstep):
    result = lockstep.assert_parity(SEED, backends=PAIR)
    assert [run.backend for run in result.runs] == ["numpy", "twin"]
    assert [case.problem.dtype for case in result.cases] == ["float64"]
"""
    )
    done.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--lockstep-backend", "torhc"), "unknown backend*got: 'torhc'*did you mean 'torch'"),
        (("--lockstep-dtype", "float16"), "dtype is not offered*got: 'float16'"),
        (("--lockstep-tolerance", "wide"), "unknown kind of tolerance*got: 'wide'"),
        (("--lockstep-report", "test_bad.py"), "the output folder cannot be written"),
    ],
)
def test_bad_options_are_refused_before_anything_is_collected(pytester, inprocess, arguments, words):
    pytester.makepyfile(test_bad="raise AssertionError('read')")
    done = inprocess(*arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    text = " ".join(done.stderr.str().split())
    for part in words.split("*"):
        assert part in text
    assert "AssertionError" not in text
    assert "Traceback" not in text


def test_help_tells_every_option_in_its_own_group(pytester):
    text = " ".join(pytester.runpytest_inprocess("--help").stdout.str().split())
    assert "lockstep: do frameworks train the same?:" in text
    for name in ("report", "backend", "dtype", "tolerance", "allow-skipped"):
        assert f"--lockstep-{name}" in text
    for name in ("report", "backends", "dtypes", "tolerance", "allow_skipped"):
        assert f"lockstep_{name} (" in text


# The marker.


def test_the_marker_runs_a_test_over_what_it_names_and_the_test_requests(pytest_run):
    done = pytest_run(
        """
@pytest.mark.lockstep(problems=["seed", SEED.replace(name="mine")], backends=[Twin(), "exact"], dtypes=["float64"])
def test_all(lockstep, lockstep_problem, lockstep_backend, lockstep_dtype):
    lockstep.assert_parity(lockstep_problem, backends=["numpy", lockstep_backend], dtypes=[lockstep_dtype], epochs=2)
""",
        "-v",
        "--strict-markers",
    )
    done.assert_outcomes(passed=4)
    for problem in ("seed", "mine"):
        for backend in ("twin", "exact"):
            done.stdout.fnmatch_lines([f"*::test_all[[]{problem}-{backend}-float64[]] PASSED*"])


def test_backends_and_dtypes_default_to_all(pytest_run):
    done = pytest_run(
        "def test_each(lockstep_backend, lockstep_dtype): print('got', lockstep_backend, lockstep_dtype)",
        "-s",
    )
    done.assert_outcomes(passed=2 * len(BACKENDS))
    for name in BACKENDS:
        assert f"got {name} float32" in done.stdout.str()


def test_options_choose_the_backends_and_dtypes_of_a_test_that_names_none(pytest_run):
    done = pytest_run(
        "def test_each(lockstep_backend, lockstep_dtype): pass",
        "-v",
        "--lockstep-backend=exact",
        "--lockstep-dtype=float32",
    )
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*::test_each[[]exact-float32[]] PASSED*"])


@pytest.mark.parametrize(
    ("marker", "arguments", "words"),
    [
        (
            "problem=['seed']",
            "lockstep_problem",
            "takes problems=[[]...[]], backends=[[]...[]], dtypes=[[]...[]], not [[]'problem'[]]",
        ),
        ("'seed'", "lockstep_problem", "takes problems=*not *seed*"),
        ("problems='seed'", "lockstep_problem", "problems is not a list of problems"),
        ("problems=[]", "lockstep_problem", "problems is not a list of problems"),
        ("problems=['sede']", "lockstep_problem", "unknown problem"),
        ("problems=['none.toml']", "lockstep_problem", "*cannot be read"),
        ("backends=['torhc']", "lockstep_backend", "unknown backend"),
        ("dtypes=['float16']", "lockstep_dtype", "dtype is not offered"),
        ("dtypes=['float16']", "lockstep", "dtype is not offered"),
        (
            "problems=['seed']",
            "lockstep",
            "the marker names problems, but the test does not request lockstep_problem",
        ),
        ("", "lockstep_problem", "the test requests lockstep_problem, but no marker names problems"),
    ],
)
def test_a_wrong_marker_is_refused_at_collection(pytest_run, marker, arguments, words):
    done = pytest_run(f"@pytest.mark.lockstep({marker})\ndef test_wrong({arguments}): pass")
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"*::test_wrong: *{words}*"])
    assert "Traceback" not in done.stdout.str()
    assert "lockstep/pytest_plugin.py" not in done.stdout.str()


# What cannot run here.


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"] if name == "torch" else [])


REASON = 'torch: no module named torch; pip install "torch>=2.6"'


def test_an_absent_framework_is_a_skip_with_the_install_command(pytest_run, without_torch):
    done = pytest_run(
        """
def test_asserted(lockstep):
    lockstep.assert_parity(SEED, backends=[*PAIR, "torch"])

def test_verified(lockstep):
    assert lockstep.verify(SEED, backends=["torch"]).verdict == "AGREE"

@pytest.mark.lockstep(backends=["numpy", "torch"])
def test_marked(lockstep_backend):
    pass
""",
        "-rs",
    )
    done.assert_outcomes(passed=1, skipped=3)
    assert done.ret == 0
    assert done.stdout.str().count(REASON) == 3
    done.stdout.fnmatch_lines(["0 of 4 cases agree; 4 SKIPPED"])


def test_an_absent_framework_does_not_hide_a_difference(pytest_run, without_torch):
    done = pytest_run(
        BROKEN + "def test_asserted(lockstep): lockstep.assert_parity(SEED, backends=[*WRONG, 'torch'])"
    )
    done.assert_outcomes(failed=1)


def test_absent_data_are_a_skip_with_the_install_command(pytest_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    done = pytest_run(
        """
def test_named(lockstep):
    lockstep.assert_parity("diabetes", backends=PAIR)

@pytest.mark.lockstep(problems=["diabetes"])
def test_marked(lockstep_problem):
    pass
""",
        "-rs",
        "--lockstep-allow-skipped",
    )
    done.assert_outcomes(skipped=2)
    assert done.stdout.str().count("pip install") == 2


VACUOUS = """
def test_skipped(lockstep):
    lockstep.assert_parity(SEED, backends=["numpy", "torch"])
"""


SKIPPED_BY_THE_MARKER = """
@pytest.mark.lockstep(backends=["torch"])
def test_marked(lockstep_backend): pass
"""


@pytest.mark.parametrize("source", [VACUOUS, VACUOUS + "def test_foreign(): pass", SKIPPED_BY_THE_MARKER])
def test_a_run_that_skipped_everything_does_not_pass(pytest_run, without_torch, source):
    done = pytest_run(source)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        [f"ERROR: lockstep: every test that verifies was skipped, so nothing was verified ({REASON}); *"]
    )


@pytest.mark.parametrize(
    ("arguments", "ini"), [(("--lockstep-allow-skipped",), ""), ((), "lockstep_allow_skipped = true")]
)
def test_that_can_be_allowed(pytester, pytest_run, without_torch, arguments, ini):
    pytester.makeini(f"[pytest]\n{ini}")
    done = pytest_run(VACUOUS, *arguments)
    done.assert_outcomes(skipped=1)
    assert done.ret == 0
    assert "ERROR" not in done.stdout.str()


@pytest.mark.parametrize(
    "beside",
    [
        "def test_ran(lockstep): lockstep.assert_parity(SEED, backends=PAIR)",
        "@pytest.mark.xfail(strict=True)\ndef test_ran(lockstep): lockstep.assert_parity(SEED, backends=PAIR[:1])",
    ],
)
def test_one_that_ran_is_enough(pytest_run, without_torch, beside):
    done = pytest_run(VACUOUS + beside)
    assert done.ret == 0


def test_skips_of_others_are_nothing_to_us_nor_their_fixtures_and_markers_of_our_name(pytest_run):
    theirs = """
import pytest

@pytest.fixture
def lockstep():
    pytest.skip("theirs")

@pytest.mark.lockstep("robots", pace=3)
def test_foreign():
    pytest.skip("theirs")

def test_fixture(lockstep): pass
"""
    done = pytest_run(theirs, prelude="")
    done.assert_outcomes(skipped=2)
    assert done.ret == 0
    assert "lockstep" not in done.stdout.str().partition("collected")[2]


# The report.


REPORTED = """
@pytest.fixture(scope="module")
def shared(lockstep_module):
    return lockstep_module.verify(SEED.replace(name="shared"), backends=PAIR)

@pytest.mark.parametrize("number", range(6))
def test_shared(shared, number):
    assert shared.verdict == "AGREE"

@pytest.mark.lockstep(problems=["seed"], dtypes=["float32", "float64"])
def test_alone(lockstep, lockstep_problem, lockstep_dtype):
    lockstep.assert_parity(SEED.replace(name="alone"), backends=PAIR, dtypes=[lockstep_dtype])

@pytest.mark.parametrize("epochs", [1, 2])
def test_twice(lockstep, epochs):
    for _ in range(epochs):
        lockstep.assert_parity(SEED, backends=PAIR, dtypes=["float64"], epochs=epochs)
"""
EXPECTED = [
    ("alone", "float32", "AGREE"),
    ("alone", "float64", "AGREE"),
    ("seed [test_reports.py::test_twice[1]]", "float64", "AGREE"),
    ("seed [test_reports.py::test_twice[2]]", "float64", "AGREE"),
    ("seed [test_reports.py::test_twice[2]] #2", "float64", "AGREE"),
    ("shared", "float32", "AGREE"),
    ("shared", "float64", "AGREE"),
]


def test_the_report_holds_every_comparison_under_a_name_of_its_own(pytester, inprocess):
    pytester.makepyfile(test_reports=PRELUDE + REPORTED)
    done = inprocess("--lockstep-report", "out")
    done.assert_outcomes(passed=10)
    document = content(pytester)
    assert sorted(named(document)) == EXPECTED
    assert document["verdict"] == "AGREE"
    assert document["command"].endswith("--lockstep-report out")
    assert document["command"].startswith("pytest ")
    keys = {(one["problem"], one["dtype"]) for one in document["cases"]}
    for rows in ("runs", "comparisons"):
        assert {(one["problem"], one["dtype"]) for one in document[rows]} == keys
    assert len(document["runs"]) == 14
    done.stdout.fnmatch_lines(["7 of 7 cases agree", f"report: {pytester.path / 'out' / 'parity.html'}; *"])


def test_the_report_is_the_same_whatever_the_order(pytester, inprocess):
    pytester.makepyfile(test_reports=PRELUDE + REPORTED)
    pytester.makeconftest("def pytest_collection_modifyitems(items): items.reverse()")
    inprocess("--lockstep-report", "out").assert_outcomes(passed=10)
    turned = named(content(pytester))
    (pytester.path / "conftest.py").unlink()
    inprocess("--lockstep-report", "out").assert_outcomes(passed=10)
    assert named(content(pytester)) == turned


@pytest.mark.slow
def test_processes_of_xdist_write_one_report(pytester):
    """Both share the module's fixture and make it, each for itself; it stands once."""
    pytester.makepyfile(test_reports=PRELUDE + REPORTED)
    done = pytester.runpytest_subprocess(*QUIET, "-n", "2", "--dist", "load", "--lockstep-report", "out")
    done.assert_outcomes(passed=10)
    document = content(pytester)
    assert sorted(named(document)) == EXPECTED
    assert document["verdict"] == "AGREE"
    done.stdout.fnmatch_lines(["* cases agree", "report: *"])


@pytest.mark.sweep
def test_all_skipped_under_xdist_does_not_pass_either(pytester):
    pytester.makepyfile(
        PRELUDE + "def test_skipped(lockstep): lockstep.assert_parity(SEED, backends=['absent'])"
    )
    pytester.makeconftest(
        "from lockstep import backends\nbackends.known()['absent'] = backends.Entry('absent', 'x:y', '', ('no_such_module',), ('absent>=1',))"
    )
    done = pytester.runpytest_subprocess(*QUIET, "-n", "2")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ['ERROR: lockstep: *(absent: no module named no_such_module; pip install "absent>=1"); *']
    )


def test_what_differs_and_what_was_skipped_stand_in_the_report(pytester, pytest_run, without_torch):
    pytester.makeini("[pytest]\nlockstep_report = reports/tests")
    done = pytest_run(
        BROKEN
        + """
def test_differs(lockstep):
    lockstep.assert_parity(SEED, backends=WRONG, dtypes=["float64"])

def test_skipped(lockstep):
    lockstep.assert_parity(SEED, backends=[*PAIR, "torch"], dtypes=["float32"])
"""
    )
    done.assert_outcomes(failed=1, skipped=1)
    document = content(pytester, "reports/tests")
    assert sorted(named(document)) == [("seed", "float32", "SKIPPED"), ("seed", "float64", "DIFFER")]
    assert document["verdict"] == "DIFFER"


def test_a_run_without_a_comparison_leaves_no_older_report(pytester, pytest_run):
    pytest_run("def test_one(lockstep): lockstep.verify(SEED, backends=PAIR)", "--lockstep-report=out")
    assert len(content(pytester)["cases"]) == 2
    pytest_run("def test_none(): pass", "--lockstep-report=out", "--collect-only")
    assert len(content(pytester)["cases"]) == 2
    pytest_run("def test_none(): pass", "--lockstep-report=out")
    document = content(pytester)
    assert (document["cases"], document["verdict"]) == ([], "INCONCLUSIVE")


def test_a_report_that_cannot_be_written_fails_the_run(pytester, pytest_run):
    done = pytest_run(
        """
import pathlib
def test_in_the_way(lockstep):
    lockstep.assert_parity(SEED, backends=PAIR)
    pathlib.Path("out/parity.json").mkdir()
""",
        "--lockstep-report=out",
    )
    done.assert_outcomes(passed=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["ERROR: lockstep: the file cannot be written"])


# The manual.


PAGE = (Path(__file__).parent.parent / "docs" / "pytest.md").read_text(encoding="utf-8")


@pytest.mark.sweep
def test_the_manuals_examples_do_what_it_says(pytester):
    (ini,) = blocks.of(PAGE, "ini")
    (shown,) = blocks.of(PAGE, "text")
    pytester.makeini(ini.text)
    pytester.makepyfile("\n".join(block.text for block in blocks.of(PAGE, "python")))
    done = pytester.runpytest_subprocess(*QUIET)
    done.assert_outcomes(passed=6, failed=1)
    assert len(shown.text.splitlines()) >= 4
    assert blocks.missing(shown.text.splitlines(), done.stdout.lines) == []
    assert content(pytester, "reports")["verdict"] == "DIFFER"


def test_the_manual_names_every_option_and_ini_value():
    for option, ini, *_ in pytest_plugin.OPTIONS:
        assert re.search(rf"^\| `--lockstep-{option}\b.*\| `lockstep_{ini}` \|", PAGE, re.MULTILINE)
    assert len(re.findall(r"^\| `--lockstep", PAGE, re.MULTILINE)) == len(pytest_plugin.OPTIONS)


# Merging.


class Twin(NumPyBackend):
    name = "twin"


@pytest.fixture(scope="module")
def agreeing():
    return lockstep.verify("seed", backends=["numpy", Twin()], dtypes=["float64"], epochs=2)


@pytest.fixture(scope="module")
def differing():
    wrong = ["numpy", faults.Broken(faults.ForgottenBias)]
    return lockstep.verify("seed", backends=wrong, dtypes=["float64"], epochs=2, diagnose="differing")


def test_what_is_kept_is_read_again_to_the_bit(agreeing, differing, tmp_path):
    for number, result in enumerate((agreeing, differing)):
        Recorded("owner", "gw0", number, result).write(tmp_path)
    (tmp_path / "gw1-0.part").write_bytes(b"half a")
    found = sorted(read(tmp_path), key=lambda one: one.number)
    assert [one.result.census() for one in found] == [agreeing.census(), differing.census()]
    assert found[0].result.runs[0].trace.losses.tobytes() == agreeing.runs[0].trace.losses.tobytes()


def test_only_what_another_process_found_just_so_is_left_out(agreeing, differing):
    same = [Recorded("a", "gw0", 0, agreeing), Recorded("a", "gw1", 0, agreeing)]
    assert len(merged(same).cases) == 1
    for others in (
        [Recorded("a", "gw0", 0, agreeing), Recorded("a", "gw0", 1, agreeing)],
        [Recorded("a", "gw0", 0, agreeing), Recorded("b", "gw1", 0, agreeing)],
        [Recorded("a", "gw0", 0, agreeing), Recorded("a", "gw1", 0, differing)],
    ):
        result = merged(others)
        assert len({case.problem.name for case in result.cases}) == 2


def test_a_name_that_a_problem_has_already_is_given_to_no_other(agreeing):
    (case,) = agreeing.cases
    taken = lockstep.verify(
        case.problem.replace(name="seed [a]"), backends=["numpy", Twin()], dtypes=["float64"], epochs=2
    )
    kept = [Recorded("a", "w", 0, agreeing), Recorded("b", "w", 1, agreeing), Recorded("c", "w", 2, taken)]
    assert [case.problem.name for case in merged(kept).cases] == ["seed [a] #2", "seed [b]", "seed [a]"]


def test_the_dtypes_of_one_result_keep_one_name(agreeing):
    """The float32 was trained beside one of the two float64, and must not pass for the other's."""
    both = lockstep.verify("seed", backends=["numpy", Twin()], dtypes=["float32", "float64"], epochs=2)
    kept = [Recorded("a", "w", 0, agreeing), Recorded("a", "w", 1, both)]
    found = [(case.problem.name, case.problem.dtype) for case in merged(kept).cases]
    assert found == [("seed [a]", "float32"), ("seed [a]", "float64"), ("seed [a] #2", "float64")]


def test_dtypes_of_several_tests_are_one_problem(agreeing):
    single = lockstep.verify("seed", backends=["numpy", Twin()], dtypes=["float32"], epochs=2)
    found = merged([Recorded("a", "w", 0, agreeing), Recorded("b", "w", 1, single)]).cases
    assert [(case.problem.name, case.problem.dtype) for case in found] == [
        ("seed", "float64"),
        ("seed", "float32"),
    ]


def test_a_case_bears_its_name_everywhere(differing):
    result = merged([Recorded("a", "w", 0, differing), Recorded("b", "w", 1, differing)])
    for case, name in zip(result.cases, ("seed [a]", "seed [b]"), strict=True):
        assert {one.problem for one in (*case.runs, *case.comparisons)} == {name}
        assert [one.problem.name for one in case.diagnoses] == [name]
    assert result.verdict is lockstep.Verdict.DIFFER
