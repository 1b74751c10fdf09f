"""A user's repo whose own folders are called `backends/` and `harness/`, and what is run in it.

Its code asserts that it finds its own; so does every command here fail where ours were found in their place.
"""

import os
import subprocess
from pathlib import Path

import pytest

# The folder of packages that has pytest, NumPy and the frameworks of the tests' own environment.
PACKAGES = Path(pytest.__file__).parent.parent

SIDES = """
import numpy as np

import backends
import harness
import lockstep
from backends.chain import CHAIN, PARAMETERS
from lockstep.backends.numpy_vjp import mean_squared_loss, sgd

assert backends.OWNER == harness.OWNER == "the user"


def batches():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 2)), rng.standard_normal((8, 1))) for _ in range(4)]


def left():
    return lockstep.adopt_numpy(CHAIN, mean_squared_loss, sgd(0.1), PARAMETERS, name="left"), batches()


def right():
    return lockstep.adopt_numpy(CHAIN, mean_squared_loss, sgd(0.1), PARAMETERS, name="right")


def wrong():
    return lockstep.adopt_numpy(CHAIN, mean_squared_loss, sgd(0.2), PARAMETERS, name="wrong")
"""
FILES = {
    "backends/__init__.py": 'OWNER = "the user"\n',
    "backends/chain.py": """
import numpy as np

from lockstep.backends.numpy_vjp import add, dot

CHAIN = [(dot, "w"), (add, "b")]
PARAMETERS = {"w": np.ones((2, 1)), "b": np.zeros(1)}
""",
    "harness/__init__.py": 'OWNER = "the user"\n',
    "harness/sides.py": SIDES,
    "conftest.py": 'import backends\nimport harness\n\nassert backends.OWNER == harness.OWNER == "the user"\n',
    "tests/test_port.py": """
import backends
import harness
from lockstep.backends.numpy_vjp.backend import NumPyBackend


class Port(NumPyBackend):
    name = "port"


def test_whose_folders_they_are():
    assert backends.OWNER == harness.OWNER == "the user"


def test_the_port(lockstep):
    lockstep.assert_parity("seed", backends=["numpy", Port()])
""",
}
PAIR = ("--trainer", "harness.sides:left", "--trainer", "harness.sides:right")
WRONG = ("--trainer", "harness.sides:left", "--trainer", "harness.sides:wrong")
ALONE = ("--trainer", "harness.sides:left")
PYTEST = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:benchmark")


class UserRepo:
    """The repo on disk, and a way to run one installation of Lockstep in it.

    Args:
        folder: where it is written.
        python: the interpreter that has Lockstep.
        lockstep: the words that start the command.
        path: folders of packages that PYTHONPATH names after the repo itself.
    """

    def __init__(self, folder, python, lockstep, path=()):
        self.folder, self.python, self.command = folder, python, lockstep
        self.path = os.pathsep.join([".", *map(str, path)])
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")

    def lockstep(self, *arguments):
        """The command's exit status and all that it printed."""
        return self._run(*self.command, *arguments)

    def pytest(self, path=()):
        """The exit status of pytest over the repo's tests, and all that it printed."""
        return self._run(self.python, "-m", "pytest", *PYTEST, "--rootdir", ".", "tests", path=path)

    def _run(self, *command, path=()):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**clean, "PYTHONPATH": os.pathsep.join([self.path, *map(str, path)])}
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment)
        return done.returncode, done.stdout + done.stderr


def check_trainers(repo, *options):
    """Verify, record and replay the user's trainers: what agrees, what differs, and what was recorded."""
    status, content = repo.lockstep("verify", *PAIR, "--quiet", *options)
    assert status == 0, content
    assert content.startswith("AGREE  1 cases"), content
    status, content = repo.lockstep("verify", *WRONG, *options)
    assert status == 1, content
    assert "its learning rate is 2 times the reference's" in content
    status, content = repo.lockstep("record", "left.npz", *ALONE, *options)
    assert status == 0, content
    assert (repo.folder / "left.npz").is_file()
    status, content = repo.lockstep("replay", "left.npz", *ALONE, "--quiet", *options)
    assert status == 0, content


def check_plugin(repo, path=()):
    """The user's tests run, and the plugin counts what they verified."""
    status, content = repo.pytest(path)
    assert status == 0, content
    assert "2 passed" in content
    assert "2 of 2 cases agree" in content
