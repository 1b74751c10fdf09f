"""The built wheel, in a clean environment, from a folder that is not the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from lockstep import backends

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "reports")

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT, symlinks=True)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*build, folder / "source"], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def lockstep(wheel, tmp_path_factory):
    """Runs the command of a clean environment that has the wheel and what it requires, nothing else."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home / "venv", with_pip=True)
    install = [home / "venv/bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, capture_output=True)

    def run(*arguments, program="lockstep", **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [home / "venv/bin" / program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=home, env={**clean, **environment})

    return run


def test_the_wheel_holds_types_and_schemas_and_nothing_foreign(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "lockstep/py.typed",
        "lockstep/pytest_plugin.py",
        "lockstep/backends/numpy_vjp/ops/dot.py",
        "lockstep/harness/schemas/problem.schema.json",
        "lockstep/harness/schemas/report.schema.json",
        "lockstep/harness/schemas/list.schema.json",
        "lockstep/harness/selftest/figures.json",
        "lockstep/harness/report/html/templates/page.html",
    ):
        assert name in names
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"lockstep"}


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
    done = lockstep("verify", "seed", "--quiet", PYTHONPATH=sysconfig.get_paths()["purelib"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("AGREE")


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
        PYTHONPATH=sysconfig.get_paths()["purelib"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 cases agree" in done.stdout
    assert (tmp_path / "out" / "parity.json").is_file()
