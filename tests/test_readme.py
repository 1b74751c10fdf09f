"""The README's commands and code are run, so that they cannot rot."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.cli import main
from tests import blocks

pytestmark = pytest.mark.usefixtures("in_one_process")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [command for command, _ in blocks.commands(README)]


@pytest.mark.parametrize(
    "block", blocks.of(README, "python"), ids=lambda block: block.text.splitlines()[-1][:40]
)
def test_python_runs(block):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == block.output


def test_there_are_commands_and_code_to_run():
    assert len(COMMANDS) >= 6
    assert len(blocks.of(README, "python")) >= 2


# The manual's pages run `lockstep selftest`, too.
@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=pytest.mark.sweep) if "selftest" in one else one for one in COMMANDS],
    ids=" ".join,
)
def test_commands_run(command, capsys):
    program, *arguments = command
    assert program == "lockstep"
    assert main(arguments) == 0
    assert capsys.readouterr().out


def test_the_table_shown_is_the_table_printed(capsys):
    shown = re.search(r"<!-- output: lockstep (.*?) -->\n```\n(.*?)```", README, re.DOTALL)
    assert main(shlex.split(shown[1])) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    losses = [line.split()[:-1] for line in shown[2].splitlines()[2:]]
    assert losses == [
        line.split()[:-1] for line in printed[2 : 2 + len(losses)]
    ]  # the distance is the machine's
    assert printed[:2] == shown[2].splitlines()[:2]
    assert blocks.of(README, "")[2].text.strip() == printed[-1]


@pytest.mark.parametrize("block", blocks.of(README, "toml"), ids=lambda block: block.text.splitlines()[0])
def test_the_toml_example_is_a_problem(tmp_path, block):
    (tmp_path / "mine.toml").write_text(block.text, encoding="utf-8")
    (tmp_path / "mine.csv").write_text("width,height,price\n1,2,3\n2,1,4\n0.5,3,2\n", encoding="utf-8")
    assert main(["verify", str(tmp_path / "mine.toml"), "--quiet"]) == 0


def test_the_make_targets_named_exist():
    targets = set(
        re.findall(r"`?make ([a-z]+)`?", README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    )
    assert {"verify", "test", "help", "bench", "check"} <= targets
    for target in targets & {
        "verify",
        "test",
        "sweep",
        "selftest",
        "help",
        "bench",
        "check",
        "schemas",
        "conventions",
        "reference",
        "docs",
    }:
        environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr


def test_the_verdicts_explained_are_all_there_are():
    from lockstep.harness.core.verdict import Verdict

    explained = re.findall(r"^\| ([A-Z]+) \|", README, re.MULTILINE)
    assert sorted(explained) == sorted(Verdict)
