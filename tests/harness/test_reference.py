"""The pages written from the code: up to date, complete, and right about what they are shown."""

import argparse

import pytest

from lockstep.harness.commands.parser import parser
from lockstep.harness.documents.markup import code, plain, table
from lockstep.harness.documents.schema import load
from lockstep.harness.documents.schema_page import choices, fields, lines_of
from lockstep.harness.reference import pages as reference


@pytest.mark.parametrize("file", reference.PAGES)
def test_the_page_is_up_to_date(file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # argparse breaks its own lines by it
    page = (reference.FOLDER / file).read_text(encoding="utf-8")
    assert page == reference.PAGES[file](), "run `make reference`"


def test_every_command_and_option_is_told():
    page = reference.command_line()
    (commands,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    assert {"verify", "diagnose", "selftest", "list", "doctor"} <= set(commands.choices)
    for name, command in commands.choices.items():
        _, _, section = page.partition(f"\n## lockstep {name}\n")
        section = section.partition("\n## ")[0]
        assert f"lockstep {name}" in section
        for action in command._actions:
            assert action.dest == "help" or all(option in section for option in action.option_strings)


def test_usage_has_what_must_be_given():
    command = argparse.ArgumentParser(prog="tool run")
    command.add_argument("first")
    command.add_argument("rest", nargs="*", metavar="FILE")
    assert reference.usage(command) == "tool run first [FILE ...]"
    command.add_argument("--size", required=True, type=int)
    assert reference.usage(command) == "tool run first [FILE ...] --size SIZE"
    command.add_argument("--kind", choices=["a", "b"], default="a", help="%(default)s, of %(prog)s at 100 %%")
    assert reference.usage(command).endswith("--size SIZE [options]")
    content = list(reference._options(command))
    assert "| <code>--kind a&#124;b</code> | a, of tool run at 100 % |" in content


SCHEMA = {
    "title": "Thing",
    "type": "object",
    "required": ["rows"],
    "properties": {
        "rows": {
            "type": "array",
            "items": {"type": "object", "required": [], "properties": {"n": {"type": ["integer", "null"], "minimum": 0}}},
        },
        "by": {"type": "object", "additionalProperties": {"$ref": "#/$defs/word"}},
        "deep": {"anyOf": [{"type": "object", "properties": {"p": {"const": 1}}}, {"type": "null"}]},
        "part": {
            "properties": {"name": {"enum": ["a|b", "c"], "default": "c"}},
            "allOf": [
                {
                    "if": {"properties": {"name": {"const": "c"}}},
                    "then": {"properties": {"name": {"description": "the third"}, "rate": {"type": "number"}}},
                }
            ],
        },
    },
    "$defs": {"word": {"type": "string", "description": "of *letters*"}},
}  # fmt: skip


def test_a_schema_is_told_by_its_structure():
    content = list(lines_of("thing", SCHEMA))
    assert [one.path for one in fields(SCHEMA)] == [
        *("rows", "rows[].n", "by", "deep", "deep.p", "part", "part.name")
    ]
    for line in (
        "| `rows` | required | list of object |  |",
        "| `rows[].n` |  | integer or null, ≥ 0 |  |",
        "| `by` |  | by name: [word](#word-of-the-thing) |  |",
        "| `deep` |  | object or null |  |",
        "| `deep.p` |  | `1` |  |",
        '| `part.name` |  | <code>"a&#124;b"</code> `"c"`, default `"c"` |  |',
        "| `c` |  |  |  | the third |",
        "|  | `rate` |  | number |  |",
        "of &#42;letters&#42;\n",
    ):
        assert line in content


def test_every_member_of_a_problem_is_told():
    found = {choice.path: choice for choice in choices(load("problem"))}
    assert {"loss", "optimizer", "schedule", "clip", "penalties[]", "average"} <= set(found)
    page = reference.schema_page()
    for member in [name for choice in found.values() for name in choice.rows]:
        assert f"| `{member}` |" in page


def test_text_cannot_break_out_of_its_cell():
    assert plain("a | b < c `d|e` *f* [g](h)\nnext") == (
        "a &#124; b &lt; c <code>d&#124;e</code> &#42;f&#42; &#91;g](h) next"
    )
    assert code("a<b|c") == "<code>a&lt;b&#124;c</code>"
    assert list(table(("a", "b"), [])) == []
    assert list(table(("a", "b"), [("1", "2")])) == ["| a | b |", "| --- | --- |", "| 1 | 2 |", ""]
