"""The table of numbers, the stored score, and what `make mutants` changes."""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.judge import mutants
from tests.judge.numbers import NUMBERS, ROOMS, WITHOUT, reasons, table
from tests.judge.planted import home

HERE = Path(__file__).parent


@pytest.mark.parametrize("number", NUMBERS, ids=lambda one: one.name)
def test_a_number_stands_once_and_has_another_value_on_either_side(number, monkeypatch):
    monkeypatch.chdir(mutants.ROOT)
    assert home(number)
    assert len({number.line, number.larger, number.smaller}) == 3
    assert (HERE / f"test_{number.tests}_bounds.py").exists()


def test_the_readers_table_is_the_one_that_is_planted():
    assert table() in (HERE / "README.md").read_text()


def written_in(path):
    """The constants of a module that are made of numbers: (name, the statement)."""
    text = path.read_text()
    for statement in ast.parse(text).body:
        target = (
            statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        )
        names = [one.id for one in ast.walk(target) if isinstance(one, ast.Name)] if target else []
        value = getattr(statement, "value", None)
        numbers = [one for one in ast.walk(value) if is_number(one)] if value else []
        if numbers and names and all(one.isupper() for one in names):
            yield ", ".join(names), ast.get_source_segment(text, statement)


def is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def without_a_line(path):
    """Those that no row of the table is of."""
    lines = [one.line for one in NUMBERS if one.place in str(path)]
    return [name for name, statement in written_in(path) if not any(one in statement for one in lines)]


def test_a_number_that_decides_has_a_line_or_a_reason_why_it_needs_none():
    modules = [path for room in ROOMS for path in sorted((mutants.ROOT / "harness" / room).rglob("*.py"))]
    harness = mutants.ROOT / "harness"
    found = [f"{path.relative_to(harness)} {name}" for path in modules for name in without_a_line(path)]
    assert sorted(found) == sorted(WITHOUT)
    assert reasons() in (HERE / "README.md").read_text()


def test_a_number_without_a_line_is_noticed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'NEW = 3.0\nPAIR, OTHER = 1, 2\nWORDS = "4"\nNAMES = frozenset({"a"})\nUNITS = 45\nsmall = 1\n'
    )
    assert without_a_line(path) == ["NEW", "PAIR, OTHER"]


def test_every_module_that_judges_has_tests_that_exist():
    for folder in mutants.FOLDERS:
        for module in (mutants.ROOT / folder).rglob("*.py"):
            tests = mutants.tests_of(str(module.relative_to(mutants.ROOT)))
            assert all((mutants.ROOT / one).exists() for one in tests), (module, tests)


def test_the_stored_score_is_of_what_is_stored_with_it():
    stored = json.loads(mutants.STORED.read_text())
    assert stored["tried"] == sum(one["tried"] for one in stored["modules"].values())
    assert stored["killed"] == sum(one["killed"] for one in stored["modules"].values())
    assert stored["tried"] - stored["killed"] == len(stored["survivors"])
    assert stored["score"] == round(stored["killed"] / stored["tried"], 4) >= mutants.LEAST
    without = [one for one in stored["survivors"] if not one["reason"]]
    assert not without


def test_the_readme_cites_the_stored_score():
    readme = (mutants.ROOT / "README.md").read_text()
    assert mutants.in_text(readme, json.loads(mutants.STORED.read_text())) == readme
    assert mutants.BLOCK.search(readme)


SOURCE = """
def f(x: int | None = 1) -> int | str:
    y: int | None = x | 2
    return y == 3
"""


def change(operator, row, column):
    place = {"start_pos": (row, column), "module_path": Path("module.py"), "occurrence": 0}
    return SimpleNamespace(mutations=(SimpleNamespace(operator_name=f"core/{operator}", **place),))


def test_annotations_and_operators_that_nobody_mistakes_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "module.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    wanted = [
        change("ReplaceBinaryOperator_BitOr_BitAnd", 3, 22),
        change("ReplaceComparisonOperator_Eq_NotEq", 4, 13),
        change("NumberReplacer", 4, 16),
    ]
    others = [
        change("ReplaceBinaryOperator_BitOr_BitAnd", 2, 13),  # an argument's annotation
        change("ReplaceBinaryOperator_BitOr_BitAnd", 2, 35),  # what is returned
        change("ReplaceBinaryOperator_BitOr_BitAnd", 3, 11),  # a variable's
        change("ReplaceBinaryOperator_BitOr_Sub", 3, 22),
        change("ReplaceComparisonOperator_Eq_LtE", 4, 13),
    ]
    assert mutants.meant([*others, *wanted]) == sorted(wanted, key=mutants.key)


def test_a_survivor_keeps_its_reason_where_lines_have_moved(tmp_path, monkeypatch):
    stored = tmp_path / "mutants.json"
    monkeypatch.setattr(mutants, "STORED", stored)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "version", lambda name: "0")
    (tmp_path / "README.md").write_text("<!-- mutants -->\n<!-- end of mutants -->\n")
    diff = "--- a/module.py\n+++ b/module.py\n@@ -1 +1 @@\n-    x = 1\n+    x = 2"
    results = [
        (change("NumberReplacer", row, 4), SimpleNamespace(is_killed=row > 1, diff=diff))
        for row in range(1, 11)
    ]
    with pytest.raises(SystemExit) as ended:
        mutants.write(results, 10, 0, "hash")
    assert ended.value.code == 1  # a survivor without a reason
    document = json.loads(stored.read_text())
    assert document["score"] == 0.9
    assert "9 (90.0%) fail a test" in (tmp_path / "README.md").read_text()
    (survivor,) = document["survivors"]
    assert (survivor["was"], survivor["became"]) == ("x = 1", "x = 2")
    survivor["reason"] = "the same"
    stored.write_text(json.dumps(document))
    moved = [(change("NumberReplacer", 7, 4), results[0][1]), *results[1:]]
    with pytest.raises(SystemExit) as ended:
        mutants.write(moved, 10, 0, "hash")
    assert ended.value.code == 0
    assert json.loads(stored.read_text())["survivors"][0]["reason"] == "the same"
