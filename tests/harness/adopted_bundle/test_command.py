"""A user's own trainer, recorded and replayed from a shell, in this process and in one of its own."""

import json

import pytest
from jsonschema import Draft202012Validator

from lockstep.cli import main
from lockstep.harness import bundle
from lockstep.harness.documents.schema import load as schema
from lockstep.harness.mapping.file import save
from lockstep.harness.mapping.mapping import Mapping
from tests.harness.adopted import models

SIDES = """
from tests.harness.adopted import models

def batches():
    return models.batches()

def left():
    print("the user prints")
    return models.torch_side("adam"), models.batches()

def alone():
    return models.torch_side("adam")

def right():
    return models.jax_side("adam"), models.batches()

def wrong():
    return models.torch_side("adam", rate=0.2), models.batches()
"""


def test_it_is_recorded_and_replayed(mine, capsys):
    steps = ["--parameters-at", "0,last", "--stages-at", "2"]
    assert main(["record", "it.npz", "--trainer", "mine:left", *steps]) == 0
    recorded = "6 losses, the last state, parameters after 0, 6 steps, stages of step 2"
    assert capsys.readouterr().out == f"the user prints\nadopted float64 torch: {recorded}\n"
    assert main(["replay", "it.npz", "--trainer", "mine:left", "--json", "it.json"]) == 0
    out = capsys.readouterr().out
    assert "torch (recorded) / torch  0.bias after 6 steps" in out
    assert "the environment is the one that it.npz was recorded in" in out
    content = json.loads((mine / "it.json").read_text())
    Draft202012Validator(schema("report")).validate(content)
    assert content["command"] == "lockstep replay it.npz --trainer=mine:left"


@pytest.mark.sweep
def test_a_process_of_its_own_gives_the_same_numbers(mine, capsys):
    options = ["--trainer", "mine:left", "--stages-at", "2", "--quiet", "--steps", "4"]
    assert main(["record", "here.npz", *options]) == 0
    assert main(["record", "there.npz", *options, "--isolated"]) == 0
    held = [bundle.load(mine / name) for name in ("here.npz", "there.npz")]
    assert len({one.runs[0].run.trace.losses.tobytes() for one in held}) == 1
    assert len({one.task.batches.tobytes() for one in held}) == 1
    assert main(["replay", "here.npz", "--trainer", "mine:left", "--isolated", "--rtol", "0"]) == 0


def test_a_difference_has_its_exit_status_and_its_sentence(mine, capsys):
    main(["record", "it.npz", "--trainer", "mine:alone", "--batches", "mine:batches", "--stages-at", "0"])
    assert main(["replay", "it.npz", "--trainer", "mine:wrong"]) == 1
    out = capsys.readouterr().out
    assert "torch first diverges from the recording at step 1, in the whole run's loss" in out
    assert "computed from the recorded state of step 0, the update of" in out


def test_another_framework_takes_the_file_of_map(mine, capsys):
    save(mine / "map.json", Mapping.of(models.NAMES), "torch", "jax")
    main(["record", "it.npz", "--trainer", "mine:left"])
    assert main(["replay", "it.npz", "--trainer", "mine:right"]) == 2
    assert "give which is which with --map" in capsys.readouterr().err
    assert main(["replay", "it.npz", "--trainer", "mine:right", "--map", "map.json"]) == 0


def test_nothing_is_imported_for_a_bundle_that_is_none(mine, capsys):
    (mine / "it.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    assert main(["replay", "it.npz", "--trainer", "mine:left"]) == 2
    assert "truncated" in capsys.readouterr().err
    assert "mine" not in __import__("sys").modules


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["record", "x.npz"], "there is nothing to record"),
        (
            ["record", "x.npz", "seed", "--trainer", "mine:left"],
            "options of problems are given with a trainer",
        ),
        (["record", "x.npz", "--trainer", "mine:left", "--epochs", "3"], "got: epochs"),
        (["record", "x.npz", "seed", "--steps", "3"], "problems have their own steps"),
        (["record", "x.npz", "--trainer", "mine:left", "--trainer", "mine:left"], "one trainer is needed"),
        (["record", "x.npz", "--trainer", "mine:alone"], "there are no batches"),
        (["record", "x.npz", "--trainer", "mine:left", "--max-size", "1kB"], "larger than was allowed"),
        (["record", "x.npz", "--trainer", "mine:left", "--stages-at", "6"], "give 0 to 5"),
        (["replay", "it.npz"], "give that trainer with --trainer"),
        (
            ["replay", "it.npz", "--trainer", "mine:left", "--backend", "numpy"],
            "a backend or a problem is given with a trainer",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(mine, capsys, arguments, words):
    main(["record", "it.npz", "--trainer", "mine:left", "--quiet"])
    capsys.readouterr()
    assert main(arguments) == 2
    content = capsys.readouterr().err
    assert words in content
    assert "fix:" in content
    assert not (mine / "x.npz").exists()


def test_problems_may_stand_behind_options(mine):
    assert main(["record", "x.npz", "--backend", "numpy", "seed", "--quiet", "--dtype", "float64"]) == 0
    assert [one.document["name"] for one in bundle.load(mine / "x.npz").problems] == ["seed"]
