"""The folders of harness/ are rooms on few layers: a room imports from rooms below it alone, and no two modules import each other."""

import ast
from functools import cache
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parents[2] / "harness"

ROOMS = (
    ("core", "documents"),
    ("mapping", "problems", "runs"),
    ("adopt", "explanations", "numerics", "problems/families"),
    ("diagnose", "environment", "matching", "selftest/mutants"),
    ("conformance/initialisers", "conformance/optimizers", "verification"),
    ("benchmark", "bundle", "conformance", "selftest"),
    ("report",),
    ("report/html",),
    ("publish",),
    ("commands", "suite"),
    ("reference",),
)
"""Layer by layer from below; a room imports from its own and from lower layers, `lockstep.backends` is below all of them."""

LAYER = {room: layer for layer, rooms in enumerate(ROOMS) for room in rooms}
MODULES = {
    "lockstep.harness." + ".".join(path.relative_to(HARNESS).with_suffix("").parts): path
    for path in sorted(HARNESS.rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def room(name):
    return str(MODULES[name].parent.relative_to(HARNESS))


@cache
def imports(name):
    """The modules of harness/ that one imports, also inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys() - {name}


def upward(layer_of, edges):
    """The imports that go up, or sideways between two rooms of one layer."""
    return [
        f"{left} imports {right}"
        for left, right in edges
        if room(left) != room(right) and layer_of[room(left)] <= layer_of[room(right)]
    ]


EDGES = [(name, other) for name in MODULES for other in sorted(imports(name)) if room(name) != "."]


def test_every_folder_is_a_room_on_a_layer_and_there_are_few():
    folders = {room(name) for name in MODULES} - {"."}
    assert folders == LAYER.keys()
    assert len(ROOMS) <= 12
    assert len(folders) <= 26


def test_a_room_imports_from_lower_layers_alone():
    assert EDGES
    assert upward(LAYER, EDGES) == []


def test_an_arrow_that_goes_up_is_found():
    """The check itself: with two layers exchanged, it names the imports that then go up."""
    turned = {**LAYER, "core": LAYER["verification"], "verification": LAYER["core"]}
    assert any(one.startswith("lockstep.harness.core.") or "core." in one for one in upward(turned, EDGES))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_is_in_a_circle(name):
    """Whoever is reached from a module by imports does not import it."""
    reached, open_ones = set(), set(imports(name))
    while open_ones:
        one = open_ones.pop()
        reached.add(one)
        open_ones |= imports(one) - reached
    assert name not in reached


def test_no_room_is_a_flat_hall():
    """A folder that holds more modules than a reader can survey is cut."""
    sizes = {}
    for name in MODULES:
        sizes[room(name)] = sizes.get(room(name), 0) + 1
    assert max(sizes.values()) <= 24, sizes
