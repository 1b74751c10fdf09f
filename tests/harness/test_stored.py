"""Stored reports: read only if they are reports, rendered again, and compared, without training."""

import json

import pytest

from lockstep.cli import main
from lockstep.harness.report import stored
from lockstep.harness.report.document import dumps
from lockstep.harness.report.stored import ReportError, load
from tests.documents import EXAMPLE, example, small


@pytest.fixture
def file(tmp_path):
    def write(content, name="report.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["report", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_a_report_is_read_as_it_was_written(file):
    assert load(file(small())) == small()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is not JSON"),
        ("# Parity", "the file is not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "a list"),
        ('{"a": 1}', "an object with 'a'"),
        ("{}", "nothing in it"),
        ('{"schema_version": 1}', "of another version"),
        ('{"schema_version": "<b>"}', "of another version"),
        ('{"schema_version": NaN}', "NaN is no JSON"),
        ('{"schema_version": 2, "seconds": 1e999}', "larger than any float"),
        ('{"schema_version": 2, "losses": 1%s}' % ("0" * 400), "larger than 64 bits hold"),
    ],
)
def test_what_is_no_report_is_refused(file, text, words):
    with pytest.raises(ReportError) as refused:
        load(file(text))
    assert words in str(refused.value)
    assert "fix: " in str(refused.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_half_a_report_is_said_to_be_cut_short(file, part):
    text = dumps(small())
    with pytest.raises(ReportError, match="cut short"):
        load(file(text[: int(len(text) * part)]))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda content: content.pop("runs"), "$"),
        (lambda content: content["cases"][0].update(verdict="FINE"), "$.cases[0].verdict"),
        (lambda content: content["runs"][0].update(losses="none"), "$.runs[0].losses"),
        (lambda content: content.update(extra=1), "$"),
    ],
)
def test_a_report_that_breaks_its_schema_is_refused_with_the_place(file, change, where):
    content = small()
    change(content)
    with pytest.raises(ReportError, match="does not keep to its schema") as refused:
        load(file(content))
    assert f"at {where}" in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ReportError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ReportError, match="not JSON"):
        load(tmp_path / "latin")


def test_the_files_are_written_again_beside_it(file, run):
    path = file(example(), "parity.json")
    status, out, err = run(path)
    assert (status, out) == (1, "")  # the verdict in it is DIFFER
    assert err == f"report: {path.parent}/parity.html; the same in parity.md, parity.json\n"
    for name in ("parity.json", "parity.md"):
        assert (path.parent / name).read_text() == (EXAMPLE / name).read_text()


def test_a_report_comes_from_standard_input(run, tmp_path, monkeypatch):
    with (EXAMPLE / "parity.json").open(encoding="utf-8") as text:
        monkeypatch.setattr(stored.sys, "stdin", text)
        assert run("-", "--output", tmp_path / "new")[0] == 1
    assert (tmp_path / "new" / "parity.html").exists()


def moved(verdict="AGREE", **more):
    content = small()
    content["cases"][0].update(verdict=verdict, **more)
    return content


def test_nothing_moved_between_a_report_and_itself(file, run):
    assert run(file(small()), file(small(), "b.json")) == (0, "Nothing moved\n", "")


def test_a_verdict_that_got_worse_exits_with_one(file, run, tmp_path):
    old, new = moved("AGREE", diagnoses=[]), moved("DIFFER")
    new["environment"]["numpy"] = "9"
    new["comparisons"][1]["used"] = 1e12
    status, out, err = run(file(old), file(new, "b.json"), "--output", tmp_path / "moved")
    assert status == 1
    assert out.endswith("Worse than before\n")
    for words in ("adam     float64  AGREE   DIFFER", "numpy  2.4.6   9", "ported first diverges from numpy"):
        assert words in out
    assert err == f"report: {tmp_path}/moved/changes.md\n"
    assert (tmp_path / "moved" / "changes.md").read_text().startswith("# Worse than before\n")


def test_a_verdict_that_got_better_and_a_distance_that_moved_are_not_worse(file, run):
    old, new = moved("DIFFER"), moved("INCONCLUSIVE")
    new["comparisons"][1]["used"] = 0.9
    status, out, _ = run(file(old), file(new, "b.json"))
    assert (status, out.splitlines()[-1]) == (0, "Not worse than before")


def test_a_case_that_is_gone_is_worse_and_a_new_one_is_not(file, run):
    few = small()
    few["cases"].pop()
    more, less = file(small()), file(few, "b.json")
    status, out, _ = run(more, less)
    assert status == 1
    assert "Not in the new report\nproblem  dtype  \nskipped  float64" in out
    assert run(less, more)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "-"], "two reports from one stdin"),
        (["none.json"], "cannot be read"),
        ([EXAMPLE / "parity.json", EXAMPLE / "parity.md"], "not JSON"),
        ([EXAMPLE / "parity.json", "--output", EXAMPLE / "parity.md" / "below"], "cannot be written"),
    ],
)
def test_bad_input_exits_with_two(run, arguments, words):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err


def test_hostile_names_stay_in_their_cells(file, run):
    content = json.loads(json.dumps(small()).replace('"adam"', '"a | b\\u001b[31m\\n[red]"'))
    status, out, _ = run(file(small()), file(content, "b.json"))
    assert status == 1
    assert "a | b\\x1b[31m\\n[red]" in out
