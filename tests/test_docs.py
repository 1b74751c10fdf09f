"""The pages of the documentation are run: code, commands and problem files, and what they are said to print."""

import tomllib
from pathlib import Path

import pytest

import lockstep
from lockstep.cli import main
from tests import blocks

pytestmark = pytest.mark.usefixtures("beside_others", "in_one_process")

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
WITH_CODE = [name for name, page in PAGES.items() if blocks.of(page, "python")]
COMMANDS = {
    f"{name}: {' '.join(command)}": (command, shown)
    for name, page in PAGES.items()
    for command, shown in blocks.commands(page)
    if command[0] == "lockstep"
}
TOML = [(name, block.text) for name, page in PAGES.items() for block in blocks.of(page, "toml")]


def test_there_is_something_to_run():
    assert {"backpropagation", "writing-a-vjp", "writing-a-backend", "diagnosing"} <= set(WITH_CODE)
    assert sum(len(block.output) for name in WITH_CODE for block in blocks.of(PAGES[name], "python")) >= 60
    assert len(COMMANDS) >= 4
    assert len(TOML) >= 1


# `adopt` loads every library that it shows.
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.sweep) if one == "adopt" else one for one in WITH_CODE]
)
def test_code_prints_what_the_page_says(name, capsys):
    """The blocks of a page run one after the other, in one namespace."""
    namespace = {"__name__": name}
    for block in blocks.of(PAGES[name], "python"):
        exec(compile(block.text, f"docs/{name}.md", "exec"), namespace)
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        if block.measured:
            assert block.output, block.text
            assert blocks.missing(block.output, printed) == [], printed
        else:
            assert printed == block.output, block.text


# tests/harness/benchmark/test_command.py has a real benchmark, tests/harness/test_selftest.py a real self-test.
ELSEWHERE = ("lockstep bench", "lockstep selftest")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=pytest.mark.sweep) if any(word in one for word in ELSEWHERE) else one
        for one in COMMANDS
    ],
)
def test_commands_print_what_the_page_shows(name, capsys):
    """Every line shown is printed, in that order; figures may be others on another machine."""
    (_, *arguments), shown = COMMANDS[name]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert blocks.missing(shown, printed) == [], printed


@pytest.mark.parametrize(("name", "text"), TOML)
def test_toml_is_toml_and_a_problem_trains(name, text, tmp_path):
    if "optimizer" in tomllib.loads(text):
        (tmp_path / "problem.toml").write_text(text, encoding="utf-8")
        result = lockstep.verify(tmp_path / "problem.toml", backends=["numpy", "torch"])
        assert result.verdict is lockstep.Verdict.AGREE, result.census()


def test_what_a_page_says_is_read_under_each_notation():
    page = "```python\nprint(1)  # 2\n```\n\n```python\nprint(3)\n```\n\n```output\n4\n```\n\n```python\nprint(5)\n```\n"
    page += "\n```measured\n6 a distance of 1e-15\n```\n\n```python\nx = 7\n```\nText.\n\n```output\n8\n```\n"
    found = [(block.output, block.measured) for block in blocks.of(page, "python")]
    assert found == [(["2"], False), (["4"], False), (["6 a distance of 1e-15"], True), ([], False)]


def test_lines_that_are_not_printed_are_missed():
    printed = ["seed  AGREE", "loss  3.2e-16  ", "2 cases"]
    assert blocks.missing(["loss 1.1e-15", "1 cases"], printed) == []
    assert blocks.missing(["seed DIFFER"], printed) == ["seed DIFFER"]
    assert blocks.missing(["2 cases", "seed AGREE"], printed) == ["seed AGREE"]
