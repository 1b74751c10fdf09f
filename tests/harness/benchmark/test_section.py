"""A stored benchmark as a section of a report: its own environment, and no time beside a verdict that is not AGREE."""

import copy
import json
import re

import pytest
from jsonschema.exceptions import best_match

from lockstep.cli import main
from lockstep.harness.benchmark import document
from lockstep.harness.documents.validation import validator
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.problems import find
from lockstep.harness.report import benchmark, html, markdown
from lockstep.harness.report.document import dumps
from lockstep.harness.report.html import cases
from lockstep.harness.report.stored import ReportError, load
from tests.documents import HOSTILE, small
from tests.harness.benchmark.made import Fake, bench
from tests.pages import SVG, found, is_harmless, parsed, words

HERE = manifest()


def measured():
    """On a problem that the report has: torch and, renamed, the port; a sweep and a baseline."""
    problem = find("seed").replace(name="adam")
    given = bench(problem, backends=["numpy", "torch"], sizes={"rows": (30, 300)}, measure=Fake(noise=0.0))
    content = json.loads(document.dumps(document.to_document(given, HERE, "lockstep bench adam")))
    for one in (*content["entries"], *content["growth"]):
        one["backend"] = one["backend"].replace("torch", "ported")
    content["environment"].update(python="3.99", git_commit=None)
    content["machine"].update(load=None, cpus=[0, 1], threads=2)
    return content


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Of the cases only the verdicts are written: their evidence is tested elsewhere, and takes long to draw."""
    monkeypatch.setattr(cases, "DETAILED", 0)


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patched:  # as `beside_others`, which each test has later
        patched.delenv("PYTEST_XDIST_WORKER", raising=False)
        return measured()


@pytest.fixture
def content(made):
    return copy.deepcopy(made)


@pytest.fixture
def files(tmp_path, content):
    (tmp_path / "report.json").write_text(dumps(small()), encoding="utf-8")
    (tmp_path / "bench.json").write_text(document.dumps(content), encoding="utf-8")
    return tmp_path / "report.json", tmp_path / "bench.json"


def section(report):
    tree = is_harmless(parsed(html.render(report)))
    (one,) = found(tree, "section", "id", "benchmark")
    return tree, one


def test_the_command_writes_the_section_in_every_form(files, tmp_path, capsys):
    report, stored = files
    assert main(["report", str(report), "--bench", str(stored), "--output", str(tmp_path / "new")]) == 1
    written = load(tmp_path / "new" / "parity.json")
    assert written["benchmark"]["command"] == "lockstep bench adam"
    assert {**written, "benchmark": None} == {**small(), "benchmark": None}
    assert "\n## Benchmark\n" in (tmp_path / "new" / "parity.md").read_text()
    page = (tmp_path / "new" / "parity.html").read_text()
    assert '<a href="#benchmark">Benchmark</a>' in page
    assert main(["report", str(tmp_path / "new" / "parity.json")]) == 1  # again, from the figures alone
    assert (tmp_path / "new" / "parity.html").read_text() == page


def test_verify_takes_a_benchmark_and_looks_at_it_before_it_trains(files, tmp_path, capsys, in_one_process):
    asked = ("verify", "seed", "--dtype", "float64", "--backend", "numpy", "--epochs", "2", "--quiet")
    assert main([*asked, "--bench", str(files[1]), "--output", str(tmp_path / "new")]) == 3  # numpy alone
    assert load(tmp_path / "new" / "parity.json")["benchmark"]["entries"]
    assert main([*asked, "--bench", str(files[0]), "--output", str(tmp_path / "none")]) == 2
    assert "the benchmark is of another version" in capsys.readouterr().err
    assert not (tmp_path / "none" / "parity.json").exists()


def test_no_time_stands_beside_what_differs_in_the_report(content):
    """The benchmark's own verdict was AGREE: of another day, of another version."""
    content["against"] = {
        "command": "",
        "lockstep": None,
        "valid": True,
        "differ": [],
        "fail_over": 1.1,
        "rows": [
            {key: one[key] for key in ("problem", "dtype", "backend", "size")}
            | {"ratio": 2.5, "interval": [2.4, 2.6], "coverage": 0.95, "regressed": True, "reason": ""}
            for one in content["entries"]
        ],
    }
    assert {one["verdict"] for one in content["entries"]} == {"AGREE"}
    report = benchmark.attached(small(), content)
    _, one = section(report)
    (kept,) = {one["backend"] for one in report["benchmark"]["entries"] if one["figures"]}
    assert kept == "numpy"
    assert not report["benchmark"]["agrees"]
    assert [one["backend"] for one in report["benchmark"]["growth"]] == ["numpy"]
    assert [row["ratio"] for row in report["benchmark"]["against"]["rows"]] == [2.5, None] * 2
    for text in (words(one), markdown.render(report)):
        assert "no time for 2 runs: a verdict is not AGREE" in text
        assert "in this report: ported first diverges from numpy" in text
        assert "ported 30" not in text
        assert "DIFFER in this report" in text
    assert best_match(validator("report").iter_errors(report)) is None


def test_a_time_that_was_written_into_a_report_is_not_shown_either(content):
    report = {**small(), "benchmark": content}
    assert all(one["figures"] for one in content["entries"])
    assert "no time for 2 runs" in words(section(report)[1])
    assert "ported | AGREE" not in markdown.render(report)


def test_every_plot_and_every_table_is_there(content):
    for one in content["entries"]:
        one["verified"]["losses"] = 0.5
    tree, one = section(benchmark.attached(small(), content))
    titles = [words(figure.find(".//{*}p")) for figure in found(one, "figure")]
    each = ["Where the time goes", "Repetitions", "Accuracy and time"]
    assert titles == [*each, *each, "adam float64: growth with rows"]
    assert len(list(one.iter(f"{SVG}svg"))) == 7
    assert "Dashed: the machine's limit." in words(one)
    ticks = [[words(text) for text in drawing.iter(f"{SVG}text")] for drawing in one.iter(f"{SVG}svg")]
    assert {"numpy", "10.2 ms", "seconds a run"} <= set(ticks[1])  # near ones on a linear scale
    assert {"rows", "50", "100", "200", "10 ms"} <= set(ticks[6])
    assert [words(head) for head in found(one, "h3")] == [
        "adam float64: 30 rows, 2 features, 3 parameters, 10 epochs, 10 steps",
        "adam float64: 300 rows, 2 features, 3 parameters, 10 epochs, 10 steps",
        *("Growth", "Its environment"),
    ]
    (link,) = [one for one in found(tree, "a") if one.get("href") == "#benchmark"]
    assert words(link) == "Benchmark"


def test_its_environment_stands_beside_the_reports_own(content):
    report = benchmark.attached(small(), content)
    facts = {one.what: one for one in benchmark.environment(report["benchmark"], report)}
    assert facts["python"].differs
    assert (facts["python"].there, facts["python"].here) == ("3.99", small()["environment"]["python"])
    assert facts["backends / numpy / device"].here is None or not facts["backends / numpy / device"].differs
    assert [one.differs for one in facts.values()] == sorted(
        (one.differs for one in facts.values()), reverse=True
    )
    assert report["environment"] == small()["environment"]
    for text in (words(section(report)[1]), markdown.render(report)):
        assert re.search(r"in another environment than this report's: .*\bpython\b", text)
        assert "3.99" in text
    same = {**content, "environment": {**small()["environment"]}}
    del same["environment"]["backends"]
    for one in same["entries"]:
        one["environment"] = {}
    assert "in the environment of this report, as far as both state it" in " ".join(
        benchmark.sentences(same, small())
    )


def test_what_the_report_has_not_is_counted(content):
    for one in content["entries"]:
        one["problem"] = "other"
    assert "4 of its 4 runs are of a problem, dtype or backend that this report does not have" in " ".join(
        benchmark.sentences(content, small())
    )
    assert all(one["figures"] for one in benchmark.judged(content, small())["entries"])


def test_a_report_without_one_has_no_section():
    page = html.render(small())
    assert 'href="#benchmark"' not in page
    assert "## Benchmark" not in markdown.render(small())


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_stay_text(kind, content):
    hostile = HOSTILE[kind]
    del content["entries"][2:]  # the other size
    for one in (*content["entries"], *content["growth"]):
        one["problem"] = one["problem"] + hostile
        one["backend"] = one["backend"] + hostile
    content["entries"][0]["environment"] = {hostile: hostile}
    content["environment"]["cpu"] = content["command"] = hostile
    report = benchmark.attached(small(), content)
    text = html.render(report)
    is_harmless(parsed(text))
    told_so = markdown.render(report)
    assert [
        line for line in told_so.splitlines() if "<" in line and line[:4] != "    "
    ] == []  # code is literal
    for one in (text, told_so):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", one)


DAMAGED = {
    "$.entries[0].figures": lambda content: content["entries"][0].update(verdict="DIFFER", repetitions=[]),
    "$.entries[0].repetitions": lambda content: content["entries"][0].update(repetitions=[]),
    "$.entries[1].figures.median": lambda content: content["entries"][1]["figures"].update(median=-1.0),
    "$.entries[0].figures.interval": lambda content: content["entries"][0]["figures"].update(
        interval=[1.0] * 3
    ),
    "$.entries[0].repetitions[0].runs[0]": lambda content: content["entries"][0]["repetitions"][0].update(
        runs=[0]
    ),
    "$.entries[0].repetitions[0]": lambda content: content["entries"][0]["repetitions"][0].pop("runs"),
    "$.entries[0].size.rows": lambda content: content["entries"][0]["size"].update(rows=0),
    "$.entries[0].sweep": lambda content: content["entries"][0].update(sweep="width"),
    "$.growth[0].points": lambda content: content["growth"][0].update(points=[[1, 2]]),
    "$.machine.copy[0].rate": lambda content: content["machine"]["copy"][0].update(rate=0),
    "$.environment": lambda content: content["environment"].pop("cpu"),
}


@pytest.mark.parametrize("where", DAMAGED)
def test_a_damaged_benchmark_is_refused_with_the_place(where, files, content, capsys):
    DAMAGED[where](content)
    report, stored = files
    stored.write_text(json.dumps(content))
    assert main(["report", str(report), "--bench", str(stored)]) == 2
    err = capsys.readouterr().err
    assert f"does not keep to its schema at {where}\n" in err
    assert re.search(r"\n  got: .*bench\.json: .+\n  fix: give a file that `lockstep bench", err)
    within = {**small(), "benchmark": content}
    report.write_text(json.dumps(within))
    with pytest.raises(ReportError, match=re.escape(f"at {where.replace('$', '$.benchmark')}")):
        load(report)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON that can be relied on"),
        ("[" * 100_000, "more than 64 levels"),
        ("[1]", "a list without a schema_version"),
        ('{"schema_version": 0}', "of another version; this Lockstep reads 1"),
        ('{"schema_version": 1, "a": 1e999}', "larger than any float"),
        ('{"schema_version": NaN}', "NaN is no number"),
        ('{"schema_version": 1, "schema_version": 1}', "stands twice"),
        ("\x00\ud800".encode("utf-8", "surrogatepass"), "not JSON that can be relied on"),
    ],
)
def test_what_is_no_benchmark_is_refused(text, words, files, capsys):
    report, stored = files
    stored.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["report", str(report), "--bench", str(stored)]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "fix: " in err


def test_it_goes_with_one_report_only(files, capsys):
    report, stored = map(str, files)
    assert main(["report", report, report, "--bench", stored]) == 2
    assert "a benchmark is given with two reports" in capsys.readouterr().err


def test_the_section_as_markdown(content, snapshot):
    content["environment"] = {**small()["environment"], "python": "3.99"}
    del content["environment"]["backends"]
    lines = markdown.render(benchmark.attached(small(), content)).splitlines()
    begin, end = lines.index("## Benchmark"), lines.index("## Environment")
    assert "\n".join(lines[begin:end]) == snapshot
