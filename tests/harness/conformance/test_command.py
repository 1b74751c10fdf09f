"""``lockstep conform``: exit status, what is told, and bad input."""

import json
import sys
from threading import Event

import pytest
from jsonschema import Draft202012Validator

from lockstep import cli
from lockstep.harness.conformance import watch
from lockstep.harness.documents.schema import load

FAULTY = "tests.harness.conformance.test_command"


def lending():
    from tests.harness.conformance.faults import FAULTS

    return FAULTS["lends"][1]()


def hostile():
    from tests.harness.conformance.faults import backend

    return backend(name="</td>\x1b[31m[red]", supports=lambda self, problem: 1 / 0)


def raising():
    raise OSError("no device")


def ending():
    sys.exit(0)


def hanging():
    from tests.harness.conformance.faults import trainer

    ended = Event()
    watch.os._exit = lambda status: ended.set()  # undone by the test
    return trainer(step=lambda self, state, batch: [ended.wait(60), 1 / 0])


@pytest.fixture
def run(capsys):
    def run(*arguments):
        try:
            status = cli.main(arguments)
        except SystemExit as left:
            status = left.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_what_keeps_every_rule_exits_with_zero(run):
    status, out, err = run("conform", "numpy")
    assert (status, err) == (0, "")
    assert "AGREE: 33 of 33 rules kept, on 46 problems" in out


def test_a_broken_rule_exits_with_one_and_says_what_to_do(run):
    status, out, _ = run("conform", f"{FAULTY}:lending", "--check", "hands out copies", "--check", "start")
    assert status == 1
    assert "DIFFER: 1 of 2 rules kept" in out
    assert "a view of a live buffer is another number after the next step" in out
    assert "fix: copy in `read`" in out
    assert "also on: " in out


def test_the_document_keeps_to_its_schema(run, tmp_path):
    status, out, _ = run("conform", f"{FAULTY}:lending", "--check", "hands out copies", "--json", "-")
    content = json.loads(out)
    Draft202012Validator(load("conformance")).validate(content)
    assert (status, content["verdict"], content["backend"]) == (1, "DIFFER", "faulty")
    (check,) = content["checks"]
    assert check["failures"][0]["problem"] == "seed float64"
    run("conform", "numpy", "--check", "twins", "--json", str(tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == "AGREE"


def test_hostile_words_stay_words(run):
    status, out, _ = run("conform", f"{FAULTY}:hostile", "--check", "supports", "--check", "start")
    assert status == 1
    assert "\x1b" not in out
    assert "[red]" in out
    assert "ZeroDivisionError" in out


def test_a_check_that_never_returns_is_named(run, monkeypatch):
    monkeypatch.setattr(watch.os, "_exit", None)
    arguments = ["conform", f"{FAULTY}:hanging", "--check", "halves", "--limit", "0.5"]
    _, _, err = run(*arguments)
    assert "does not come back from check 'halves' on seed float64" in err
    assert "fix: see what it waits for" in err


def test_code_that_ends_the_process_does_not_choose_the_status(run, monkeypatch):
    status, _, err = run("conform", f"{FAULTY}:ending")
    assert (status, "SystemExit: 0" in err) == (2, True)
    monkeypatch.setattr("lockstep.harness.commands.doctor._run", lambda options: sys.exit(0))
    status, _, err = run("doctor")
    assert status == 3
    assert "error: code that was to be run ended the process" in err


def test_the_checks_are_listed(run):
    status, out, _ = run("conform", "--list", "--check", "twins")
    assert status == 0
    assert "the budget is the spread of disturbed runs" in out
    assert "predictions" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no backend was named"),
        (["nmpy"], "did you mean 'numpy'"),
        (["torch:fast"], "unknown backend"),
        (["numpy", "--check", "twin"], "did you mean 'twins'"),
        (["nowhere.at_all:Backend"], "cannot be imported"),
        ([f"{FAULTY}:lend"], "no such function"),
        ([f"{FAULTY}:raising"], "OSError: no device"),
        ([f"{FAULTY}:json"], "it is no function"),
        ([f"{FAULTY}:test_the_checks_are_listed"], "cannot be built"),
        (["builtins:dict"], "no object with a method 'supports'"),
        (["numpy", "--limit", "0"], "not a valid time limit"),
        (["numpy", "--limit", "inf"], "not a valid time limit"),
        (["numpy", "--json", "README.md/below.json"], "cannot be written"),
    ],
)
def test_bad_input_exits_with_two(run, arguments, words):
    status, out, err = run("conform", *arguments)
    assert (status, out) == (2, "")
    assert words in err
