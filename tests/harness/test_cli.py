"""The command line: exit status, what goes to stdout, and no traceback whatever comes in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep import backends, cli
from lockstep.harness import problems
from lockstep.harness.environment import (
    conventions,
)
from lockstep.harness.environment.listing import (
    listing,
)
from lockstep.harness.problems import (
    CORE,
    catalogue,
)
from lockstep.harness.report import document

ROOT = Path(__file__).parents[2]
DIVERGES = """
name = "diverges"
epochs = 400
data = { x = [[1, 2], [3, 4], [5, 6]], y = [1, 2, 3] }
model = [{ op = "linear", size = 1 }]
loss = { name = "squared_error", reduction = "sum" }
optimizer = { name = "sgd", learning_rate = 10 }
"""
PAIR = ["--backend", "numpy", "--backend", "torch"]


@pytest.fixture
def run(in_one_process, capsys):
    """Runs a command in this process and gives its status, stdout and stderr."""

    def run(*arguments):
        try:
            status = cli.main(arguments)
        except SystemExit as left:
            status = left.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def process(*arguments, **options):
    command = [sys.executable, *options.pop("python", ()), "-m", "lockstep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


def test_agreement_exits_with_zero_and_prints_both_tables(run):
    status, out, err = run("verify", "seed", *PAIR)
    assert (status, err) == (0, "")
    assert "seed float64  AGREE" in out
    assert "110.29005" in out
    assert "numpy / torch  0.linear/w  AGREE" in out
    assert out.rstrip().splitlines()[-1].startswith("AGREE  2 cases, 8 comparisons")


def test_the_seed_is_what_is_verified_by_default(run):
    assert run("verify", *PAIR, "--quiet")[1].startswith("AGREE  2 cases")


def test_a_set_of_the_catalogue_is_verified(run, monkeypatch):
    monkeypatch.setattr("lockstep.harness.problems.CORE", ("seed", "momentum"))
    status, out, _ = run("verify", "--core", "--epochs", "2", "--dtype", "float64", "--json", "-")
    content = json.loads(out)
    assert (status, [case["problem"] for case in content["cases"]]) == (0, ["seed", "momentum"])
    assert content["command"].startswith("lockstep verify --core")


def test_the_core_is_of_the_catalogue():
    assert len(set(CORE) & set(catalogue())) == len(CORE)


def test_a_difference_exits_with_one(run):
    status, out, _ = run("verify", "seed", *PAIR, "--rtol", "1e-12")
    assert status == 1
    assert "DIFFER" in out
    assert "beyond tolerance first at epoch" in out


def test_one_backend_exits_with_three(run):
    status, out, _ = run("verify", "seed", "--backend", "numpy")
    assert status == 3
    assert "two are needed to compare" in out


def test_an_absent_framework_exits_with_three_and_says_what_to_do(run, monkeypatch):
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"] if name == "torch" else [])
    status, out, _ = run("verify", "seed")
    assert status == 3
    assert 'torch: SKIPPED: no module named torch; pip install "torch>=2.6"' in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "sede"], "did you mean 'seed'"),
        (["verify", "none.toml"], "cannot be read"),
        (["verify", "seed", "--backend", "tensorflow"], "known backends"),
        (["verify", "seed", "--dtype", "float16"], "use one of float64, float32"),
        (["verify", "seed", "--epochs", "0"], "epochs must be a positive integer"),
        (["verify", "seed", "--epochs", "-3"], "-3"),
        (["verify", "seed", "--epochs", "many"], "invalid int value: 'many'"),
        (["verify", "seed", "--rtol", "nan"], "rtol is not a tolerance"),
        (["verify", "seed", "--rtol", "-1"], "rtol is not a tolerance"),
        (["verify", "seed", "--atol", "inf"], "atol is not a tolerance"),
        (["verify", "seed", "--rtol", "2"], "give a number below 1"),
        (["verify", "seed", "--core"], "together with a whole set"),
        (["verify", "--core", "--all"], "not allowed with"),
        (["verify", "seed", "seed"], "two problems have one name"),
        (["verify", "seed", "--all"], "problems are named together with a whole set"),
        (["verify", "seed", "--output", "README.md/below"], "output folder cannot be written"),
        (["verify", "seed", "--json", "README.md/below.json"], "output folder cannot be written"),
        (["verify", "--unknown"], "unrecognized arguments"),
        (["unknown"], "invalid choice"),
        ([], "required"),
    ],
)
def test_bad_input_exits_with_two(run, monkeypatch, arguments, words):
    monkeypatch.chdir(ROOT)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_a_diverging_run_never_agrees(run, tmp_path, backend):
    (tmp_path / "d.toml").write_text(DIVERGES)
    status, out, _ = run(
        "verify", str(tmp_path / "d.toml"), "--backend", "numpy", "--backend", backend, "--json", "-"
    )
    content = json.loads(out, parse_constant=pytest.fail)
    assert status in (1, 3)
    if backend != "numpy":
        assert content["verdict"] in ("DIFFER", "ERROR")
        assert all("not finite from epoch" in case["reason"] for case in content["cases"])
    assert {"NaN", "Infinity"} & set(map(str, content["runs"][0]["losses"]))


def test_json_to_stdout_is_all_there_is(run):
    status, out, err = run("verify", "seed", *PAIR, "--json", "-")
    content = json.loads(out)
    assert (status, err, content["verdict"]) == (0, "", "AGREE")
    assert {row["backend"] for row in content["runs"]} == {"numpy", "torch"}


def test_files_are_written_and_named_on_stderr(run, tmp_path):
    status, out, err = run(
        "verify",
        "seed",
        *PAIR,
        "--quiet",
        "--output",
        str(tmp_path / "new"),
        "--json",
        str(tmp_path / "r.json"),
    )
    assert status == 0
    assert out.startswith("AGREE")
    assert "parity.md" in err
    first, second = ((tmp_path / name).read_text() for name in ("new/parity.json", "r.json"))
    assert first == second
    assert (tmp_path / "new" / "parity.md").read_text().startswith("# Parity: AGREE")


def test_epochs_are_overridden_and_long_tables_thinned(run):
    _, out, _ = run("verify", "seed", *PAIR, "--dtype", "float64", "--epochs", "300")
    assert "  ..." in out
    assert "  299  " in out
    assert "  150  " not in out


def test_the_whole_catalogue_is_verified_by_one_flag(run, monkeypatch):
    few = {name: problems.catalogue()[name] for name in ("seed", "ridge")}
    monkeypatch.setattr(problems, "catalogue", lambda: few)
    content = json.loads(run("verify", "--all", *PAIR, "--dtype", "float64", "--json", "-")[1])
    assert [case["problem"] for case in content["cases"]] == ["seed", "ridge"]
    assert content["command"] == "lockstep verify --all --backend=numpy --backend=torch --dtype=float64"


def test_no_color_is_honoured():
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    arguments = ("verify", "seed", "--backend", "numpy")
    assert "\x1b[33m" in process(*arguments, env=environment).stdout
    assert "\x1b[33m" not in process(*arguments, env={**environment, "NO_COLOR": "1"}).stdout


def test_list_names_everything(run):
    status, out, _ = run("list")
    assert status == 0
    for kind, rows in listing().items():
        if isinstance(rows, list):
            assert kind in out
            assert all(row["name"] in out for row in rows)
    assert json.loads(run("list", "--json")[1]) == listing()


def test_list_conventions_shows_the_table(run):
    status, out, _ = run("list", "--conventions")
    assert status == 0
    content = json.loads(run("list", "--conventions", "--json")[1])
    assert content == conventions.conventions()
    for row in content["conventions"]:
        assert f"{row['kind']} {row['name']}" in out


def test_doctor_shows_versions_and_what_is_missing(run, monkeypatch):
    status, out, _ = run("doctor")
    assert status == 0
    for words in (
        "python: ",
        "blas: ",
        "backend numpy: version",
        "backend jax: version",
        "threads",
        "device cpu",
    ):
        assert words in out
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["jax"] if name == "jax" else [])
    status, out, _ = run("doctor")
    assert status == 3
    assert "backend jax: cannot run: no module named jax" in out
    assert '  fix: pip install "jax>=' in out
    assert json.loads(run("doctor", "--json")[1])["backends"]["jax"]["problem"] == "no module named jax"


def test_version(run):
    status, out, _ = run("--version")
    assert status == 0
    assert out.startswith("lockstep ")


FRAMEWORKS = ("jax", "jaxlib", "haiku", "optax", "torch")


def imported(*command):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    names = [line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()]
    return set(names) & set(FRAMEWORKS)


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["verify", "--help"],
        ["list"],
        ["list", "--json"],
        ["list", "--conventions"],
        ["--version"],
    ],
)
def test_no_framework_is_imported(command):
    assert imported("-m", "lockstep", *command) == set()


def test_the_import_check_sees_a_framework():
    assert "optax" in imported("-c", "import optax")


@pytest.mark.parametrize(
    "arguments", [["list"], ["--help"], ["--version"], ["verify", "--backend", "numpy", "--quiet"]]
)
def test_a_reader_that_goes_away_is_neither_an_error_nor_a_verdict(arguments):
    # Closed before the start: `| head -1` would take all of a short output before it goes.
    theirs, ours = os.pipe()
    os.close(theirs)
    command = [sys.executable, "-m", "lockstep", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    try:
        done = subprocess.run(
            command, stdout=ours, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
    finally:
        os.close(ours)
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_the_parent_of_the_workers_imports_no_framework():
    code = (
        "import sys\nfrom lockstep.cli import main\nif __name__ == '__main__':\n"
        " assert main(['verify', 'seed', '--quiet']) == 0\n"
        " print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(FRAMEWORKS) & set(done.stdout.split())


def test_a_failure_of_our_own_is_not_a_difference(run, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(document, "to_document", broken)
    status, out, err = run("verify", *PAIR)
    assert (status, out) == (3, "")
    assert "broken on purpose" in err


def test_a_full_disk_and_a_closed_output():
    full = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m lockstep list > /dev/full"], cwd=ROOT, capture_output=True
    )
    assert full.returncode == 3
    closed = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m lockstep list >&-"], cwd=ROOT, capture_output=True
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_an_interrupt_is_one_word(run, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(document, "to_document", interrupted)
    assert run("verify", *PAIR)[::2] == (130, "interrupted\n")
