"""What is printed and written, whole, against what is kept in __snapshots__/; after a wanted change: pytest --snapshot-update.

Figures of a run are masked: they are other machines' others. Those of the stored report are fixed.
"""

import json
import re

import pytest
from rich.console import Console
from syrupy.extensions.json import JSONSnapshotExtension

from lockstep.cli import main
from lockstep.harness.report import changes, junit, markdown, summary, terminal
from tests.documents import small

FIGURE = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?%?(?![\w.])")
SEED = ["verify", "seed", "--dtype", "float64", "--backend", "numpy", "--backend", "torch"]
ROUNDED = {"losses", "parameters"}
"""Of a run's figures these are the same anywhere, to six digits."""


@pytest.fixture
def printed(in_one_process, capsys):

    def printed(*arguments):
        main(arguments)
        return capsys.readouterr().out

    return printed


def in_terminal(what):
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def masked(value, key=""):
    """The document with its own words and counts, its results to six digits, and the kind of every other figure."""
    if isinstance(value, dict):
        return {name: masked(one, name if key not in ROUNDED else key) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one, key) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if key in ROUNDED else "a number"
    return value


def test_markdown(snapshot):
    assert markdown.render(small()) == snapshot


def test_summary(snapshot):
    assert summary.render(small()) == snapshot


def test_junit(snapshot):
    assert junit.render(small()) == snapshot


def test_terminal(snapshot):
    assert in_terminal(terminal.render(small())) == snapshot


def test_changes(snapshot):
    old, new = small(), small()
    old["cases"][0].update(verdict="AGREE", diagnoses=[])
    new["cases"].pop(1)
    new["environment"]["backends"]["torch"]["version"] = "2.14.0"
    moved = changes.changes(old, new)
    assert changes.render(moved) == snapshot(name="markdown")
    assert in_terminal(terminal.changes(changes.headline(moved), changes.sections(moved))) == snapshot(
        name="terminal"
    )


def test_verify_prints(printed, snapshot):
    lines = FIGURE.sub("#", printed(*SEED)).splitlines()
    assert [" ".join(line.split()) for line in lines] == snapshot


def test_verify_writes_json(printed, snapshot):
    content = json.loads(printed(*SEED, "--json", "-"))
    for one in content["comparisons"]:
        one.update(places=len(one["places"]), differing="a count")
    content["alarm"] = sorted(content["alarm"])
    content["environment"] = sorted(content["environment"])
    assert masked(content) == snapshot(extension_class=JSONSnapshotExtension)
