"""Reports of hostile names and of figures that are not finite."""

import pytest
from rich.console import Console

import lockstep
from lockstep.backends.problem import Optimizer
from lockstep.harness.documents import (
    figures,
)
from lockstep.harness.problems import find
from lockstep.harness.report import (
    document,
    markdown,
    terminal,
)
from lockstep.harness.report.thin import shown_epochs

HOSTILE = "<script>alert(1)</script> | [red]x[/red] `a` *b* _c_\n# head"


@pytest.fixture
def content():
    problem = find("seed").replace(name=HOSTILE, optimizer=Optimizer("sgd", learning_rate=1e3), epochs=100)
    return document.to_document(lockstep.verify(problem, backends=["numpy", "torch"]), {"cpu": "a | b"})


def test_markdown_keeps_hostile_names_in_their_cells(content):
    text = markdown.render(content)
    assert "<script>" not in text
    assert "\n# head" not in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "script" in line]
    assert rows
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert "NaN" in text


def test_names_of_backends_and_quantities_are_no_markup(content):
    for row in content["runs"]:
        row["backend"] = f"[red]{row['backend']}"
    for row in content["comparisons"]:
        row.update(left=f"[red]{row['left']}", right=f"[red]{row['right']}", quantity=f"[b]{row['quantity']}")
    console = Console(width=400, color_system=None)
    with console.capture() as captured:
        console.print(terminal.render(content))
    for words in ("[red]numpy  ", "[red]numpy / [red]torch", "[b]loss"):
        assert words in captured.get()


def test_markdown_thins_long_runs_and_large_parameters(content):
    for row in content["runs"]:
        row["parameters"] = {"0.linear/w": [list(range(6)), list(range(6))]}
    text = markdown.render(content)
    assert "\n| 99 |" in text
    assert "\n| 50 |" not in text
    assert "4, 5, 0, 1, ... (12 values)" in text


def test_the_terminal_shows_hostile_names_as_they_are(content):
    console = Console(width=400, color_system=None)
    with console.capture() as captured:
        console.print(terminal.render(content))
    assert "[red]x[/red]" in captured.get()
    assert "NaN" in captured.get()


def test_short_runs_are_shown_whole_and_long_ones_at_both_ends():
    assert shown_epochs(20) == list(range(20))
    shown = shown_epochs(1000)
    assert shown == [*range(10), None, *range(990, 1000)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (figures.loss(1 / 3, "float32"), "0.33333333"),
        (figures.loss("NaN", "float64"), "NaN"),
        (figures.loss(None, "float64"), "-"),
        (figures.distance(0.0), "0"),
        (figures.distance("Infinity"), "Infinity"),
        (figures.distance("NaN"), "-"),
        (figures.ulps(None), "-"),
        (figures.ulps(12345678), "1.2e+07"),
        (figures.printable("a\x1b[31m\nb\u202e∑"), "a\\x1b[31m\\nb\\u202e∑"),
        (figures.place([3], "epoch"), "epoch 3"),
        (figures.place([3, 1], "index"), "[3, 1]"),
    ],
)
def test_figures(found, words):
    assert found == words
