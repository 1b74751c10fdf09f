"""What continuous integration reads: JUnit's XML, a summary in Markdown, and what moved between two reports."""

import copy
import json
from xml.etree import ElementTree

import pytest

import lockstep
from lockstep.backends.problem import Optimizer
from lockstep.cli import main
from lockstep.harness.problems import find
from lockstep.harness.report import attribution, changes, junit, summary
from lockstep.harness.report.document import to_document
from tests.meta import faults
from tests.meta.faults import Broken

HOSTILE = "a\x00b\x1b[31m </testcase> | `c` \N{RIGHT-TO-LEFT OVERRIDE}\n" + "x" * 300


def twin(name):
    other = Broken(faults.SignFlipped.__mro__[1])  # without a fault
    other.name = name
    return other


def told_of(*backends, problem="seed", **options):
    options = {"dtypes": ["float64"], "diagnose": "differing", **options}
    return to_document(
        lockstep.verify(problem, backends=backends, **options), {"cpu": "one"}, "lockstep verify seed"
    )


@pytest.fixture(scope="module")
def agreeing():
    return told_of("numpy", twin("second"), twin("third"))


@pytest.fixture(scope="module")
def differing():
    return told_of("numpy", twin("second"), Broken(faults.SignFlipped))


def verdicts(content):
    return attribution.verdicts(content, content["cases"][0])


def test_the_one_who_agrees_with_nobody_is_the_one_who_differs(agreeing, differing):
    assert set(verdicts(agreeing).values()) == {"AGREE"}
    assert verdicts(differing) == {"numpy": "AGREE", "second": "AGREE", "broken": "DIFFER"}
    assert verdicts(told_of("numpy", Broken(faults.SignFlipped))) == {"numpy": "DIFFER", "broken": "DIFFER"}
    assert verdicts(told_of("numpy")) == {"numpy": "INCONCLUSIVE"}


def test_junit_has_a_case_a_backend_and_the_first_divergence(agreeing, differing):
    suite = ElementTree.fromstring(junit.render(differing).encode())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    cases = {one.get("name"): one for one in suite}
    assert list(cases) == ["seed float64 numpy", "seed float64 second", "seed float64 broken"]
    assert list(cases["seed float64 numpy"]) == []
    (failure,) = cases["seed float64 broken"]
    assert failure.tag == "failure"
    assert failure.get("message") == differing["cases"][0]["diagnoses"][1]["sentence"]
    assert ElementTree.fromstring(junit.render(agreeing).encode()).get("failures") == "0"


def test_junit_tells_errors_skips_and_what_could_not_be_judged():
    diverging = find("seed").replace(optimizer=Optimizer("sgd", learning_rate=1e6), epochs=300)
    for content, tag in (
        (told_of("numpy", twin("second"), problem=diverging), "error"),
        (told_of("numpy"), "error"),
    ):
        suite = ElementTree.fromstring(junit.render(content).encode())
        assert {part.tag for one in suite for part in one} == {tag}
    content = told_of("numpy")
    content["runs"].append(
        {
            **content["runs"][0],
            "backend": "gone",
            "verdict": "SKIPPED",
            "reason": "no gone",
            "fix": "pip",
            "losses": [],
        }
    )
    suite = ElementTree.fromstring(junit.render(content).encode())
    (skipped,) = suite.findall("testcase/skipped")
    assert skipped.get("message") == "no gone. pip"


def test_hostile_names_break_neither_xml_nor_markdown(differing):
    content = copy.deepcopy(differing)
    for row in (*content["cases"], *content["runs"], *content["comparisons"]):
        row["problem"] = HOSTILE
    suite = ElementTree.fromstring(junit.render(content).encode())
    assert len(suite) == 3
    assert "\N{REPLACEMENT CHARACTER}" in suite[0].get("name")
    rows = [line for line in summary.render(content).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}


def test_the_summary_says_what_differs_and_how_to_see_it_again(differing):
    text = summary.render(differing)
    assert text.startswith("## Lockstep: DIFFER")
    assert "| seed | float64 | AGREE | AGREE | DIFFER | DIFFER |" in text
    assert "broken first diverges from numpy" in text
    assert text.rstrip().endswith("Again: `lockstep verify seed`")


@pytest.mark.parametrize("limit", [600, 5_000, summary.COMMENT])
def test_a_long_summary_is_cut_below_its_limit_and_says_so(differing, limit):
    content = {**differing, "cases": differing["cases"] * 2000}
    text = summary.render(content, limit)
    assert len(text) <= limit
    assert text.startswith("## Lockstep: DIFFER")
    assert "more lines are left out here; the report has them." in text
    assert "left out" not in summary.render(differing)


def test_the_command_writes_them(tmp_path, monkeypatch, capsys):
    step = tmp_path / "step.md"
    step.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    arguments = ["verify", "seed", "--backend", "numpy", "--dtype", "float64"]
    assert main([*arguments, "--junit", str(tmp_path / "a.xml"), "--markdown", "-"]) == 3
    assert capsys.readouterr().out.startswith("## Lockstep: INCONCLUSIVE")
    assert ElementTree.parse(tmp_path / "a.xml").getroot().get("tests") == "1"
    assert step.read_text(encoding="utf-8").startswith("before\n## Lockstep: INCONCLUSIVE")
    assert main([*arguments, "--json", "-", "--markdown", "-"]) == 2
    assert "two outputs for one stdout" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    assert main(arguments) == 2
    assert "the file cannot be written" in capsys.readouterr().err


def test_nothing_moved_between_a_report_and_itself(agreeing):
    content = changes.changes(agreeing, json.loads(json.dumps(agreeing)))
    assert not any(content.values())
    assert not changes.got_worse(content)
    assert changes.render(content) == "# Nothing moved\n"


def test_the_memory_of_a_device_is_no_environment(agreeing):
    old, new = (
        {**agreeing, "environment": {"backends": {"torch:cuda": {"version": "2", "device_peak_bytes": one}}}}
        for one in (1, 2)
    )
    assert not any(changes.changes(old, new).values())
    new["environment"]["backends"]["torch:cuda"]["version"] = "3"
    assert changes.changes(old, new)["environment"] == [("backends: torch:cuda: version", "2", "3")]


def test_what_moved_is_told(agreeing, differing):
    new = copy.deepcopy(differing)
    new["environment"] = {"cpu": "other", "backends": {"numpy": {"version": "2"}}}
    new["cases"].append({**agreeing["cases"][0], "problem": "added"})
    old = {**agreeing, "environment": {"cpu": "one", "backends": {"numpy": {"version": "1"}}}}
    old["cases"] = [*old["cases"], {**agreeing["cases"][0], "problem": "gone"}]
    content = changes.changes(old, new)
    assert content["gone"] == [("gone", "float64")]
    assert content["added"] == [("added", "float64")]
    assert content["verdicts"] == [(("seed", "float64"), "AGREE", "DIFFER")]
    assert content["environment"] == [("cpu", "one", "other"), ("backends: numpy: version", "1", "2")]
    assert content["distances"]
    assert changes.got_worse(content)
    assert not changes.got_worse({**changes.changes(new, old), "gone": []})
    assert changes.got_worse({**changes.changes(new, old), "verdicts": []})  # a case is gone
    text = changes.render(content)
    assert text.startswith("# Worse than before")
    for words in (
        "## Not in the new report\n\n| problem | dtype |\n| --- | --- |\n| gone | float64 |",
        "## New\n\n| problem | dtype |\n| --- | --- |\n| added | float64 |",
        "| seed | float64 | AGREE | DIFFER |",
        "first diverges from numpy",
        "| cpu | one | other |",
    ):
        assert words in text
