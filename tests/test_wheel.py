"""The built wheel, in a clean environment, from a folder that is not the repository, and the source distribution."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from lockstep import backends
from tests.user_repo import PACKAGES, PAIR, UserRepo, check_plugin, check_trainers

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "reports")

pytestmark = pytest.mark.sweep


def built(source, out):
    """The wheel of a source folder or archive."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out]
    subprocess.run([*build, source], check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "it", ignore=LEFT_OUT, symlinks=True)


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return built(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    code = "import sys, setuptools.build_meta; setuptools.build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """A clean environment that has the wheel and what it requires, nothing else."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=True)
    install = [home / "bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def lockstep(home):
    """Runs a command of that environment."""

    def run(*arguments, program="lockstep", **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [home / "bin" / program, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=home.parent, env={**clean, **environment}
        )

    return run


def files_of_the_package():
    """By the names that they bear when it is installed."""
    return {
        f"{prefix}{path.relative_to(ROOT / top).as_posix()}"
        for top, prefix in (
            ("lockstep", "lockstep/"),
            ("backends", "lockstep/backends/"),
            ("harness", "lockstep/harness/"),
        )
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_source_and_nothing_foreign(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    for name in (
        "lockstep/py.typed",
        "lockstep/pytest_plugin.py",
        "lockstep/backends/numpy_vjp/ops/dot.py",
        "lockstep/harness/schemas/problem.schema.json",
        "lockstep/harness/selftest/figures.json",
        "lockstep/harness/report/html/templates/page.html",
    ):
        assert name in names
    assert names == files_of_the_package()


def test_the_source_distribution_holds_folders_not_links(sdist):
    with tarfile.open(sdist) as archive:
        members = {one.name.partition("/")[2]: one for one in archive.getmembers()}
    assert not [name for name, one in members.items() if one.issym() or one.islnk()]
    packed = {name for name, one in members.items() if one.isfile() and name.startswith("lockstep/")}
    assert packed == files_of_the_package()
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= members.keys()
    assert {name.partition("/")[0] for name in members if name}.isdisjoint({"backends", "harness", "tests"})


def test_the_wheel_of_the_source_distribution_is_the_same(sdist, wheel, tmp_path):
    other = built(sdist, tmp_path)
    assert other.name == wheel.name
    ours, theirs = (
        {name: one.read(name) for name in one.namelist()} for one in map(zipfile.ZipFile, (wheel, other))
    )
    assert ours == theirs


def test_the_environment_has_one_module_of_ours(home):
    """A user's `backends` and `harness` must not be found in it."""
    (packages,) = home.glob("lib/*/site-packages")
    assert (packages / "lockstep").is_dir()
    assert not [name for name in ("backends", "harness", "tests") if (packages / name).exists()]


def test_without_frameworks_it_lists_and_says_what_to_install(lockstep):
    listed = lockstep("list")
    assert listed.returncode == 0, listed.stderr
    assert 'not installed: pip install "torch' in listed.stdout
    judged = lockstep("verify", "seed")
    assert judged.returncode == 3, judged.stderr
    for name in ("jax", "torch"):
        assert f"{name}: SKIPPED: no module named {name}" in judged.stdout
        assert backends.entry(name).install_command in judged.stdout
    assert lockstep("doctor").returncode == 3


def test_beside_the_frameworks_it_agrees(lockstep):
    done = lockstep("verify", "seed", "--quiet", PYTHONPATH=str(PACKAGES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("AGREE")
    modes = ["--backend", "torch:foreach", "--backend", "jax:step", "--backend", "torch"]
    done = lockstep("verify", "seed", "--quiet", *modes, PYTHONPATH=str(PACKAGES))
    assert done.returncode == 0, done.stdout + done.stderr


SUITE = """
import sys
from lockstep import pytest_plugin

def test_the_plugin_is_the_wheels():
    assert pytest_plugin.__file__.startswith(sys.prefix)

def test_the_seed(lockstep):
    lockstep.assert_parity("seed", backends=["numpy", "torch"], dtypes=["float64"])
"""


def test_pytest_finds_the_plugin_and_writes_its_report(lockstep, tmp_path):
    """pytest and torch stand on the path; Lockstep is the wheel's, whose modules pytest rewrites as a plugin's."""
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    options = ["-W", "error", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:benchmark"]
    done = lockstep(
        *("-m", "pytest", *options, "--rootdir", tmp_path, tmp_path / "test_suite.py"),
        *("-o", f"lockstep_report={tmp_path / 'out'}"),
        program="python",
        PYTHONPATH=str(PACKAGES),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 cases agree" in done.stdout
    assert (tmp_path / "out" / "parity.json").is_file()


@pytest.fixture
def repo(home, tmp_path):
    return UserRepo(tmp_path, home / "bin/python", [home / "bin/lockstep"])


@pytest.mark.parametrize("options", [(), ("--isolated",)], ids=["here", "isolated"])
def test_a_users_trainers_find_the_users_folders(repo, options):
    check_trainers(repo, *options)


def test_the_plugin_leaves_a_users_folders_alone(repo):
    check_plugin(repo, path=[PACKAGES])


@pytest.fixture
def other(tmp_path):
    """Another interpreter, which has NumPy and SciPy and no Lockstep."""
    home = tmp_path / "other"
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/*/site-packages")
    for name in ("numpy", "numpy.libs", "scipy", "scipy.libs"):
        if (PACKAGES / name).exists():
            (packages / name).symlink_to(PACKAGES / name)
    return home / "bin/python"


FOREIGN = """
import importlib.util
import pathlib
import sys

import numpy

from harness.sides import left, right

assert pathlib.Path(numpy.__file__).is_relative_to(sys.prefix), numpy.__file__
assert importlib.util.find_spec("rich") is None  # the first interpreter has it
"""


def test_another_interpreter_has_its_own_packages_and_the_users_folders(repo, other):
    (repo.folder / "foreign.py").write_text(FOREIGN)
    pair = ["--trainer", "foreign:left", "--trainer", "foreign:right"]
    status, content = repo.lockstep("verify", *pair, "--quiet", "--python", other, "--python", other)
    assert status == 0, content
    mixed = ["--python", repo.python, "--python", other]
    status, content = repo.lockstep("verify", *PAIR, "--quiet", *mixed)
    assert status == 0, content
