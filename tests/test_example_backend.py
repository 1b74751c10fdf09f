"""The example of a third party's backend: what it imports, what it trains, and that installing it is enough.

Its own tests, which hold it to every rule of the protocol, lie beside it and run with these.
"""

import ast
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lockstep
from lockstep.harness.problems import catalogue, find
from lockstep_autograd.backend import AutogradBackend

FOLDER = Path(__file__).parent.parent / "examples" / "lockstep-autograd"
SHARED = {"lockstep.backends.ops", "lockstep.backends.problem", "lockstep.backends.protocol"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@functools.cache
def trained():
    return [name for name in catalogue() if AutogradBackend().supports(find(name)) is None]


def test_it_computes_everything_itself():
    """It takes from Lockstep what a problem is and what a trainer is, no formula."""
    modules = {name for path in FOLDER.glob("lockstep_autograd/*.py") for name in imported(path)}
    own = {name for name in modules if name.partition(".")[0] == "lockstep_autograd"}
    foreign = {name.partition(".")[0] for name in modules - own - SHARED} - set(sys.stdlib_module_names)
    assert foreign == {"autograd", "numpy"}


def test_its_page_says_what_it_trains():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"trains {len(trained())} of the {len(catalogue())} problems" in page


# The parameters are the catalogue's names, not the trained ones: collecting builds no problem.
@pytest.mark.sweep
@pytest.mark.parametrize("name", list(catalogue()))
def test_it_agrees_with_the_reference_or_says_why_not(name):
    if name in trained():
        result = lockstep.verify(name, backends=["numpy", AutogradBackend()])
        assert result.verdict is lockstep.Verdict.AGREE, result.census()
    else:
        assert AutogradBackend().supports(find(name)).reason.startswith("it has no ")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder of packages that holds the example, as pip installs it."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(FOLDER, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", folder / "packages", source], check=True, capture_output=True)
    return folder / "packages"


@pytest.mark.sweep
def test_once_installed_every_command_knows_it(installed, tmp_path):
    def lockstep(*arguments):
        command = [sys.executable, "-m", "lockstep", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    listed = lockstep("list")
    assert "installed by lockstep-autograd" in listed.stdout, listed.stderr
    judged = lockstep("verify", "seed", "--backend", "autograd", "--backend", "numpy", "--quiet")
    assert judged.returncode == 0, judged.stderr
    assert judged.stdout.startswith("AGREE  2 cases")
