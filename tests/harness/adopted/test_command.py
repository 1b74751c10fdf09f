"""Adopted trainers on the command line: found, judged, in processes of their own, and refused with a reason."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from lockstep.backends.adoption import AdoptionError
from lockstep.cli import main
from lockstep.harness.adopt.remote import isolated
from lockstep.harness.mapping.file import read
from lockstep.harness.verification import adopted

SIDES = """
from tests.harness.adopted import models

def batches():
    return models.batches()

def left():
    print("the user prints")
    return models.torch_side(), models.batches()

def right():
    return models.jax_side()

def wrong():
    return models.jax_side(rate=0.2)

def fails():
    raise RuntimeError("no data here")

def leaves():
    raise SystemExit(2)

def none():
    return []

nothing = 3

def other():
    return 3
"""

ALONE = """
import itertools
from lockstep.harness.adopt.factories import NEEDED

class Trainer:
    capabilities, generator = frozenset(), ""

for name in NEEDED:
    setattr(Trainer, name, "float64")

def endless():
    return Trainer(), (([at], 1) for at in itertools.count())

def asks():
    input()
"""


def test_map_writes_what_verify_reads(mine, capsys):
    pair = ["--trainer", "mine:left", "--trainer", "mine:right"]
    assert main(["map", *pair, "-o", "map.json"]) == 0
    assert len(read(mine / "map.json").links) == 6
    assert "6 links, 0 parameters left over" in capsys.readouterr().out
    assert main(["verify", *pair, "--map", "map.json", "--json", "report.json"]) == 0
    content = json.loads((mine / "report.json").read_text())
    assert content["verdict"] == "AGREE"
    assert "--trainer=mine:left --trainer=mine:right --map=map.json" in content["command"]


def test_a_difference_has_its_exit_status_and_its_sentence(mine, capsys):
    pair = ["--trainer", "mine:left", "--trainer", "mine:wrong"]
    assert main(["verify", *pair, "--steps", "3"]) == 1
    assert "its learning rate is 2 times the reference's" in capsys.readouterr().out
    assert main(["diagnose", *pair]) == 1
    assert "update of" in capsys.readouterr().out


def test_what_the_user_prints_is_no_data(mine, capsys):
    pair = ["--trainer", "mine:left", "--trainer", "mine:right"]
    assert main(["verify", *pair, "--quiet", "--json", "-", "--steps", "1"]) == 0
    content = capsys.readouterr()
    assert json.loads(content.out)["verdict"] == "AGREE"
    assert "the user prints" in content.err


def test_what_another_process_reads_and_yields(mine):
    """Batches need not end; what the user's code reads is no request of ours."""
    (mine / "alone.py").write_text(ALONE)
    made = isolated("alone:endless")
    for _ in range(2):
        assert list(itertools.islice(made.batches, 3)) == [([0], 1), ([1], 1), ([2], 1)]
    with pytest.raises(AdoptionError, match="EOF when reading"):
        isolated("alone:asks")


def test_an_interpreter_that_cannot_be_one_says_so():
    code = "import runpy, sys; sys.modules['lockstep.harness.adopt.worker'] = None; runpy.run_module('lockstep.harness.adopt.interpreter', None, '__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{sys.executable} cannot run a trainer: ModuleNotFoundError: ")


def test_a_process_of_its_own_gives_the_same_bits(mine):
    from tests.harness.adopted import models

    made = isolated("mine:left")
    (x, _), *_ = made.batches
    assert np.array_equal(x, models.batches()[0][0])
    result = adopted.verify(
        [made.trainer, models.torch_side(name="here")], made.batches, rtol=0.0, diagnose="all"
    )
    assert all(one.differing == 0 for one in result.comparisons)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trainer", "mine:left"], "two trainers are needed"),
        (["--trainer", "mine", "--trainer", "mine:right"], "names no factory"),
        (["--trainer", "mine:lift", "--trainer", "mine:right"], "did you mean 'left'"),
        (["--trainer", "nowhere:make", "--trainer", "mine:right"], "cannot be imported"),
        (["--trainer", "mine:nothing", "--trainer", "mine:right"], "it is no function"),
        (["--trainer", "mine:other", "--trainer", "mine:right"], "is no trainer"),
        (["--trainer", "mine:fails", "--trainer", "mine:right"], "no data here"),
        (["--trainer", "mine:leaves", "--trainer", "mine:right"], "SystemExit: 2"),
        (["--trainer", "mine:right", "--trainer", "mine:right"], "there are no batches"),
        (["--trainer", "mine:left", "--trainer", "mine:right", "--batches", "mine:none"], "0 batches"),
        (["--trainer", "mine:left", "--trainer", "mine:right", "--batches", "mine:other"], "are no batches"),
        (
            ["seed", "--trainer", "mine:left", "--trainer", "mine:right"],
            "options of problems are given with adopted",
        ),
        (["--trainer", "mine:left", "--trainer", "mine:right", "--epochs", "3"], "epochs"),
        (["seed", "--steps", "3"], "but no trainer"),
        (["--trainer", "mine:left", "--trainer", "mine:fails", "--isolated"], "no data here"),
        (["--trainer", "mine:left", "--trainer", "mine:right", "--python", "x"], "as many interpreters"),
        (
            ["--trainer", "mine:left", "--trainer", "mine:right", "--python", "/no/py", "--python", "x"],
            "cannot be started",
        ),
        (
            ["--trainer", "mine:left", "--trainer", "mine:right", "--python", "echo", "--python", "echo"],
            "its process ended",
        ),
        (["--trainer", "mine:left", "--trainer", "mine:right", "--map", "none.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_had_is_refused(mine, capsys, arguments, words):
    assert main(["verify", *arguments]) == 2
    content = capsys.readouterr().err
    assert words in content
    assert "fix:" in content


def test_diagnose_needs_a_problem_or_trainers(capsys):
    assert main(["diagnose"]) == 2
    assert "nothing to diagnose" in capsys.readouterr().err
