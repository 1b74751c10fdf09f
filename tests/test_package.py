"""The package `lockstep`: its public names, what importing it costs, and a user's repo that has folders of our names."""

import ast
import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lockstep
from lockstep import backends
from tests.user_repo import UserRepo, check_plugin

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("lockstep", "backends", "harness", "tests", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def declared():
    """Public name -> its home, as the imports for type checkers state it."""
    (block,) = [node for node in parsed(Path(lockstep.__file__)).body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body
        for alias in node.names
    }


def looked_up():
    """Public name -> its home, as it is imported on first use."""
    homes = {name: home.partition(":") for name, home in lockstep._HOMES.items()}
    return {name: f"lockstep.{module}:{other or name}" for name, (module, _, other) in homes.items()}


def test_type_checkers_and_the_lazy_table_agree():
    assert declared() == looked_up()


def test_all_lists_the_lazy_table_in_order():
    assert lockstep.__all__ == sorted(lockstep._HOMES)
    assert set(lockstep.__all__) <= set(dir(lockstep))


@pytest.mark.parametrize("name", lockstep.__all__)
def test_every_public_name_is_what_its_home_defines(name):
    found = getattr(lockstep, name)
    assert found.__doc__
    assert found.__name__ == looked_up()[name].partition(":")[2]


FUNCTIONS = [name for name in lockstep.__all__ if name.islower()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_takes_and_raises(name):
    """The page of the documentation shows no more than this."""
    found = getattr(lockstep, name)
    arguments, _, raises = inspect.getdoc(found).partition("Raises:")
    assert raises
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if name not in ("assert_parity", "assert_parity_adopted"):  # those of `verify`, as they say
        taken = [one.name for one in inspect.signature(found).parameters.values() if one.kind not in kinds]
        described = re.findall(r"^    ([\w, ]+): ", arguments.partition("Args:")[2], flags=re.MULTILINE)
        assert [one for group in described for one in group.split(", ")] == taken


def test_what_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="module 'lockstep' has no attribute 'verfy'"):
        lockstep.verfy  # noqa: B018


def test_no_public_name_hides_a_module():
    assert set(lockstep.__all__).isdisjoint(one.name for one in pkgutil.iter_modules(lockstep.__path__))


@pytest.mark.parametrize("statement", ["import lockstep", "import lockstep; dir(lockstep); lockstep.__all__"])
def test_importing_it_imports_nothing(statement):
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {one.partition(".")[0] for one in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"lockstep"}
    assert "lockstep.backends" not in done.stdout.split()


def test_the_docs_page_lists_every_public_name():
    """Its text is each name's docstring, which `make docs` renders."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rendered = re.findall(r"^::: lockstep\.(\w+)$", page, flags=re.MULTILINE)
    assert sorted(rendered) == lockstep.__all__


def imported(path):
    """The top-level names that a file imports, and the line of each."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0], node.lineno


def test_nothing_is_imported_but_as_the_package():
    """`import backends` would find a user's folder, or be found in its place."""
    assert len(SOURCES) > 400
    ours = {"backends", "harness"}
    found = [(path, line) for path in SOURCES for name, line in imported(path) if name in ours]
    assert found == []


@pytest.mark.parametrize("entry", backends.BUILT_IN, ids=lambda entry: entry.name)
def test_every_backend_of_ours_lies_in_the_package(entry):
    """A name in a string is no import, and finds a folder of the user's all the same."""
    module, _, _ = entry.target.partition(":")
    assert importlib.util.find_spec(module)
    assert module.startswith("lockstep.backends.")


def test_a_script_runs_the_package_without_its_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lockstep", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def repo(tmp_path):
    return UserRepo(tmp_path, sys.executable, [sys.executable, "-m", "lockstep"])


def test_a_users_folders_of_our_names_are_the_users(repo):
    """The whole of it runs against the wheel, in tests/test_wheel.py."""
    pair = ["--trainer", "harness.sides:left", "--trainer", "harness.sides:right", "--quiet"]
    status, content = repo.lockstep("verify", *pair, "--isolated")
    assert status == 0, content


def test_the_plugin_leaves_a_users_folders_alone(repo):
    check_plugin(repo)


def test_another_interpreter_gets_lockstep_and_nothing_else_of_ours(tmp_path, monkeypatch):
    """What is installed beside Lockstep hides neither the user's modules nor the other interpreter's own."""
    from lockstep.harness.adopt.remote import isolated

    (tmp_path / "theirs.py").write_text(
        "import sys\nfrom lockstep.backends.adoption import AdoptionError\n"
        "def path():\n    raise AdoptionError('path', '|'.join(sys.path), 'none')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "own")
    with pytest.raises(lockstep.LockstepError) as raised:
        isolated("theirs:path")
    first, second, *rest = raised.value.got.split("|")
    assert [first, second] == [os.fspath(tmp_path), os.fspath(tmp_path / "own")]
    plain = subprocess.run(
        [sys.executable, "-c", "import sys; print('|'.join(sys.path))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert rest == plain.stdout.strip().split("|")[2:]
