"""The alarm's own test: mutants found and named, clean runs quiet, and figures that can come out badly."""

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from lockstep import backends
from lockstep.cli import main
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import investigate
from lockstep.harness.documents.schema import load
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
from lockstep.harness.problems import catalogue, find
from lockstep.harness.report.alarm import (
    stored,
)
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.selftest import figures, report
from lockstep.harness.selftest.clean import clean
from lockstep.harness.selftest.mutants import MUTANTS, named
from lockstep.harness.selftest.mutated import Mutated
from lockstep.harness.selftest.score import (
    CHOSEN_ON,
    CleanRun,
    Finding,
    Rate,
    detection_curve,
    plant,
    train_clean,
)
from tests.conftest import BACKENDS

SHOWN = ("seed", "momentum", "probe-square", "accumulated")
"""Quick problems, for the mutants that can show on them; the others are left to the sweep."""


MISPLACED = {
    "running averages lost in a checkpoint": "training never reads them: named where reading first shows it, at the start"
}
"""Found, but named at another stage."""


def planted():
    for mutant in MUTANTS:
        for number, problem in enumerate(mutant.problems):
            marks = [] if number == 0 and problem in SHOWN else [pytest.mark.sweep]
            if mutant.name in MISPLACED:
                marks.append(pytest.mark.xfail(strict=True, reason=MISPLACED[mutant.name]))
            yield pytest.param(mutant, problem, marks=marks, id=f"{mutant.name}-{problem}")


@pytest.mark.parametrize(("mutant", "problem"), list(planted()))
def test_a_planted_bug_is_found_and_named(mutant, problem):
    found = plant(mutant, problem, seed=0)
    assert found.found, found.sentence
    assert found.placed, f"{found.stage}: {found.sentence}"
    assert found.explained is not False, f"{found.explanation or 'nothing'} for {mutant.explanation.name}"


def test_the_explanation_of_a_mutant_is_a_row_of_the_table():
    linked = [mutant.explanation for mutant in MUTANTS if mutant.explanation is not None]
    assert len(linked) > 40
    assert all(any(one is row for row in EXPLANATIONS) for one in linked)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("half squares", "constant ratio"),
        ("gradients of the step before", ""),
        ("the learning rate scaled", ""),
        ("a square gradient transposed", ""),
    ],
)
def test_without_its_explanation_a_mutant_is_not_explained(name, instead, monkeypatch):
    (mutant,) = (one for one in MUTANTS if one.name == name)
    assert plant(mutant, mutant.problems[0], seed=0).explained
    without = tuple(one for one in EXPLANATIONS if one is not mutant.explanation)
    monkeypatch.setitem(investigate.__kwdefaults__, "explanations", without)
    found = plant(mutant, mutant.problems[0], seed=0)
    assert (found.found, found.explained, found.explanation) == (True, False, instead)


def test_there_are_enough_and_each_has_its_own_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60
    assert {problem for mutant in MUTANTS for problem in mutant.problems} <= set(catalogue())


@pytest.mark.parametrize("problem", ["seed", "adam", "batch-norm"])
def test_without_a_fault_the_mutated_trainer_is_the_reference(problem):
    """To the bit: what is found is the fault, not the wrapper."""
    asked = find(problem).replace(epochs=4)
    reference = backends.load(backends.REFERENCE)
    traces = []
    for backend in (reference, Mutated(reference, lambda asked: Intervention())):
        trainer = backend.trainer(asked)
        state = trainer.init()
        losses = []
        for batch in asked.batches():
            state, loss = trainer.step(state, batch)
            losses.append(loss)
        traces.append((np.array(losses), trainer.read(state)))
    np.testing.assert_array_equal(traces[0][0], traces[1][0])
    for part in ("parameters", "optimizer", "buffers"):
        for name, value in getattr(traces[0][1], part).items():
            np.testing.assert_array_equal(value, getattr(traces[1][1], part)[name])


def quiet(seeds):
    """That no clean run alarms, and that most could be judged: see the README for the measured rates."""
    runs = list(train_clean(seeds, BACKENDS))
    assert not [one for one in runs if one.alarms]
    undecided = [one for one in runs if one.dtype == "float64" and one.verdict is not Verdict.AGREE]
    assert sum(not one.ill_posed for one in undecided) <= 3
    assert sum(one.verdict is Verdict.AGREE for one in runs) > 0.7 * len(runs)


def test_clean_problems_do_not_alarm():
    quiet(range(2))


@pytest.mark.sweep
@pytest.mark.parametrize("first", range(0, 500, 25))
def test_five_hundred_clean_problems_do_not_alarm(first):
    quiet(range(first, first + 25))


def test_a_clean_problem_without_a_definite_trajectory_differs_from_one_that_rounding_hides():
    """55: Rprop on a quantile loss, whose gradients add up to exactly 0 in truth; 111: Adafactor magnifies rounding."""
    ill, hidden = train_clean(
        [55, 111], [backends.load("numpy"), Mutated(backends.load("numpy"), lambda asked: Intervention())]
    )
    assert (ill.verdict, ill.ill_posed) == (Verdict.INCONCLUSIVE, True)
    assert (hidden.verdict, hidden.ill_posed) == (Verdict.INCONCLUSIVE, False)


def test_the_readme_shows_the_stored_figures_and_they_are_passed():
    """Written by `python -m lockstep.harness.selftest.figures`, from one run of the command."""
    score = stored()
    assert report.passed(score)
    assert score["clean"]["alarms"]["trials"] >= 2000
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert figures.table(score) in text
    assert figures.in_text(text, score) == text
    other = {**score, "detection": []}
    assert figures.in_text(text, other) != text


def test_a_problem_that_diverges_everywhere_is_no_alarm_and_a_backend_that_fails_is():
    (run,) = train_clean([733], BACKENDS)
    assert (run.verdict, run.diverged, run.alarms) == (Verdict.ERROR, True, False)
    failed = CleanRun("clean-1", "float64", Verdict.ERROR, "it failed")
    score = report.document([], [run, failed], {})
    assert (score["clean"]["alarms"]["hits"], score["clean"]["diverged"]["hits"]) == (1, 1)


def test_the_documents_are_those_of_the_schema():
    finding = Finding("m", "seed", "float64", 0, False, "", False, "", False, "nothing", used=float("inf"))
    runs = [CleanRun("clean-1", "float64", Verdict.INCONCLUSIVE, "blind", True)]
    score = report.document([finding], runs, {1e-2: Verdict.DIFFER})
    Draft202012Validator(load("selftest")).validate(score)
    broken = {**score, "lockstep": 1}
    with pytest.raises(ValidationError, match="is not of type 'string'"):
        Draft202012Validator(load("selftest")).validate(broken)


def test_a_clean_problem_is_its_seeds():
    assert repr(clean(3)) == repr(clean(3))
    assert len({clean(seed).optimizer.name for seed in range(60)}) > 8
    assert min(CHOSEN_ON) > 100_000


def test_the_detection_curve_falls_from_found_to_not_found():
    curve = detection_curve()
    assert curve[1e-12] is Verdict.DIFFER
    assert curve[1e-15] is Verdict.AGREE
    assert list(curve.values()) == sorted(curve.values(), key=lambda one: one is Verdict.AGREE)


def test_rates_have_an_upper_bound():
    """No alarm in 2,000 is at most 0.15 %: the rule of three."""
    assert Rate(0, 2000).upper == pytest.approx(3 / 2000, rel=0.01)
    assert Rate(5, 5).upper == 1
    assert "0 of 20" in str(Rate(0, 20))


def test_a_miss_and_an_alarm_are_reported_and_fail():
    missed = Finding("m", "seed", "float64", 0, False, "", False, "", False, "nothing")
    alarm = CleanRun("clean-1", "float64", Verdict.DIFFER, "it differs")
    score = report.document([missed], [alarm], {1e-2: Verdict.DIFFER})
    assert not report.passed(score)
    assert score["mutants"]["float64"]["missed"]["hits"] == score["clean"]["alarms"]["hits"] == 1
    good = Finding("m", "seed", "float64", 0, True, "loss", True, "", None, "")
    assert report.passed(report.document([good], [], {}))


def test_the_command_prints_rates_and_writes_json(capsys, tmp_path):
    arguments = ["selftest", "--mutant", "wrong sign", "--clean", "1"]
    assert main([*arguments, "--json", str(tmp_path / "self.json")]) == 0
    out = capsys.readouterr().out
    assert "float64, 1 kinds: planted bugs that were missed" in out
    assert "0 of 2" in out
    assert "smallest relative change" in out
    score = json.loads((tmp_path / "self.json").read_text(encoding="utf-8"))
    assert score["mutants"]["float64"]["missed"]["trials"] == 2


def test_an_unknown_bug_is_refused(capsys):
    assert main(["selftest", "--mutant", "no such bug"]) == 2
    assert "no planted bug has that in its name" in capsys.readouterr().err
    assert named(None) == list(MUTANTS)
