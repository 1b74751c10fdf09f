"""The registry: names, absent frameworks, third parties, and who imports whom."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lockstep import backends
from lockstep.backends.errors import BackendUnavailableError, UnknownNameError
from lockstep.backends.numpy_vjp.backend import TABLES
from lockstep.backends.problem import Average, Penalty
from lockstep.backends.protocol import unsupported
from tests.conftest import square_problem

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"jax", "jaxlib", "haiku", "optax", "torch", "flint"}


def imports_of(path):
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_importing_the_registry_imports_no_framework_and_no_numpy():
    code = "import sys; from lockstep import backends; backends.entries(); print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "lockstep" in loaded
    assert not (FRAMEWORKS | {"numpy"}) & set(loaded)


def test_an_unknown_name_suggests_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'torch'"):
        backends.load("troch")


def test_an_absent_framework_gives_the_install_command(monkeypatch):
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"])
    with pytest.raises(BackendUnavailableError, match='pip install "torch'):
        backends.load("torch")


def test_a_broken_install_is_unavailable_not_a_crash(monkeypatch):
    broken = backends.Entry("broken", "lockstep.backends.no_such_module:Backend", "", (), ("some-package",))
    monkeypatch.setattr(backends, "known", lambda: {"broken": broken})
    with pytest.raises(BackendUnavailableError, match="reinstall it: pip install"):
        backends.load("broken")


def test_third_parties_are_found_by_entry_point_and_cannot_take_our_names(monkeypatch):
    points = [
        EntryPoint("theirs", "their.module:Backend", backends.ENTRY_POINT_GROUP),
        EntryPoint("numpy", "their.module:Backend", backends.ENTRY_POINT_GROUP),
    ]

    class Distribution:
        name = "their-package"

    for point in points:
        vars(point)["dist"] = Distribution
    monkeypatch.setattr(backends, "entry_points", lambda group: points)
    backends.known.cache_clear()
    try:
        found = backends.entries()
    finally:
        monkeypatch.undo()
        backends.known.cache_clear()
    assert found["theirs"].target == "their.module:Backend"
    assert found["numpy"].target.startswith("lockstep.backends.")


def test_a_reference_and_modes_train_where_they_are_named_and_not_by_default():
    assert list(backends.entries()) == ["numpy", "jax", "torch"]
    assert {"exact", "jax:step", "torch:compile"} <= set(backends.known())
    assert backends.entry("exact").name == "exact"


def test_requirements_are_those_of_the_package_metadata():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for entry in backends.BUILT_IN:
        if entry.requirements:
            assert list(entry.requirements) == extras[entry.name.partition(":")[0]]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "backends").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_arrows_point_one_way(path):
    """No backend imports another or the harness, and only a backend imports its framework."""
    own = path.relative_to(ROOT / "backends").parts[0]
    wrappers = {"numpy_vjp.function"} if path.name == "wrap.py" else set()
    folders = {item.name for item in (ROOT / "backends").iterdir() if item.is_dir()}
    allowed = {"jax_haiku": {"jax", "haiku", "optax"}, "pytorch": {"torch"}, "exact": {"flint"}}
    for module in imports_of(path):
        assert not module.startswith("lockstep.harness")
        top, _, rest = module.removeprefix("lockstep.").partition(".")
        assert top not in FRAMEWORKS or top in allowed.get(own, set()), module
        if top == "backends" and rest in wrappers:
            continue
        other = rest.partition(".")[0] if top == "backends" else ""
        if own == "exact" and other == "numpy_vjp":  # it is that chain, over other numbers
            continue
        assert other not in folders - {own} or not other, module


@pytest.mark.parametrize(
    "path", sorted((ROOT / "harness").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_harness_knows_no_framework(path):
    shared = {"lockstep.backends"} | {
        f"lockstep.backends.{one}" for one in ("problem", "protocol", "ops", "errors", "adoption", "steps")
    }
    for module in imports_of(path):
        assert module.partition(".")[0] not in FRAMEWORKS
        assert not module.startswith("lockstep.backends") or module in shared, module


OURS = ("backends", "harness", "lockstep", "tests", "benchmarks", "examples", "docs")


@pytest.mark.parametrize("folder", OURS)
def test_nothing_imports_the_folders_by_their_own_names(folder):
    """`import backends` would find a user's folder of that name; ours is `lockstep.backends`."""
    own_name = re.compile(
        r"^\s*(from|import) (backends|harness)\b|files\(.(backends|harness)\b", re.MULTILINE
    )
    users = ("user_repo.py", "test_wheel.py")  # a user's repo, with folders of these names
    files = [
        path
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md") and path.name not in users
    ]
    assert files
    for path in files:
        assert not own_name.search(path.read_text(encoding="utf-8")), path


def test_a_backend_without_a_table_does_not_support_what_is_in_it():
    """A kind that a backend has never heard of is refused, not ignored."""
    problem = square_problem(penalties=(Penalty("l1", weight=0.1),), average=Average("ema", decay=0.9))
    tables = dict(TABLES)
    assert unsupported(problem, tables) is None
    for kind, name in (("penalty", "l1"), ("average", "ema"), ("clip", "none"), ("layer", "linear")):
        rest = {other: table for other, table in tables.items() if other != kind}
        assert unsupported(problem, rest).reason == f"it has no {kind} {name!r}"


@pytest.mark.parametrize("folder", ["backends", "harness"])
def test_nobody_branches_on_a_backends_name(folder):
    comparison = re.compile(r"""(==|!=|\bin\b)\s*[\[({]?\s*["'](numpy|jax|torch|exact)["']""")
    for path in (ROOT / folder).rglob("*.py"):
        assert not comparison.search(path.read_text(encoding="utf-8")), path
