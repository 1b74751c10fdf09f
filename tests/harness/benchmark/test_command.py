"""``lockstep bench``: exit status, where the output goes, and one run of the real thing."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockstep import cli
from lockstep.harness.benchmark import bench as module
from lockstep.harness.benchmark import (
    stored,
)
from lockstep.harness.benchmark.proof import Proof
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.publish import (
    bench_folder as folder,
)
from lockstep.harness.runs import processes, workers
from tests.harness.benchmark.made import Fake, probe

ROOT = Path(__file__).parents[3]
PAIR = ("--backend", "numpy", "--backend", "torch")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command with processes that are made."""
    monkeypatch.setattr(processes, "side_by_side", workers.in_process)
    made = {"measure": Fake(), "probe": probe}
    real = module.bench
    monkeypatch.setattr(module, "bench", lambda *given, **options: real(*given, **{**options, **made}))

    def run(*arguments, **changes):
        made.update(changes)
        status = cli.main(["bench", *PAIR, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_what_agrees_exits_with_zero(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    assert re.search(r"^torch +AGREE \(10 epochs\) +30\.\d ms", out, re.MULTILINE)
    assert out.rstrip().endswith("2 runs timed, all of them AGREE")


def test_another_verdict_exits_with_one(run, monkeypatch):
    monkeypatch.setattr(
        module,
        "proofs",
        lambda problem, names, *rest: dict.fromkeys(names, Proof(Verdict.DIFFER, "far apart")),
    )
    status, out, _ = run()
    assert status == 1
    assert "no time for 2 runs" in out
    assert " ms" not in out


def test_a_noisy_machine_exits_with_four(run):
    status, out, _ = run("--width", "0.01", "--time-limit", "0.2", measure=Fake(noise=0.5))
    assert status == 4
    assert "too noisy, or too little time" in out
    assert run("--quick", measure=Fake(noise=0.5))[0] == 0  # asks for no width


def test_an_interrupt_writes_what_is_there_and_exits_as_interrupts_do(run, tmp_path):
    class Interrupted(Fake):
        def __call__(self, *given):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(*given)

    status, out, _ = run("--output", str(tmp_path), measure=Interrupted())
    content = json.loads((tmp_path / "bench.json").read_text())
    assert status == 130
    assert content["interrupted"]
    assert sum(len(one["repetitions"]) for one in content["entries"]) == 3
    assert "interrupted: these are" in out


def test_a_regression_exits_with_one_and_another_machine_with_three(run, tmp_path):
    old = tmp_path / "old.json"
    assert run("--json", str(old))[0] == 0
    gate = ("--against", str(old), "--fail-over", "1.10")
    assert run(*gate, measure=Fake())[0] == 0
    status, out, _ = run(*gate, measure=Fake({"torch": 0.05}))
    assert status == 1
    assert "slower than the baseline by more than 1.1: torch" in out
    content = json.loads(old.read_text())
    content["environment"]["cpu"] = "another"
    old.write_text(json.dumps(content))
    status, out, _ = run(*gate, measure=Fake({"torch": 0.05}))
    assert status == 3
    assert "not valid: cpu: another then" in out
    assert run("--against", str(old))[0] == 0


def test_files_and_stdout(run, tmp_path):
    status, out, err = run("--output", str(tmp_path / "new"), "--markdown", "-")
    assert status == 0
    assert out.startswith("# Benchmark")
    assert out == (tmp_path / "new" / "bench.md").read_text()
    assert (tmp_path / "new" / "bench.html").read_text().startswith("<!DOCTYPE html>")
    assert "bench.html" in err
    content = json.loads(run("--json", "-", "--sizes", "rows=30,60", "epochs=5")[1])
    assert content["command"] == (
        "lockstep bench seed --backend=numpy --backend=torch --sizes rows=30,60 epochs=5 --width=0.1 --time-limit=300"
    )


def test_without_the_extra_there_is_no_page_and_a_line_says_how_to_get_it(run, tmp_path, monkeypatch):
    (tmp_path / "bench.html").write_text("of an earlier benchmark")
    monkeypatch.setattr(folder, "NEEDED", ("jinja2", "not_installed"))
    status, _, err = run("--output", str(tmp_path))
    assert status == 0
    assert 'no bench.html: it needs not_installed; pip install "lockstep-parity[report]"' in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_figures_alone_import_nothing_of_the_page():
    code = "import sys, lockstep.harness.publish.bench_folder, lockstep.harness.report.bench_markdown; print({'jinja2', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


@pytest.mark.sweep
def test_ctrl_c_leaves_the_finished_repetitions_in_every_output(tmp_path):
    """A real signal, to a real process that has finished one round at least."""
    asked = ["bench", "--backend", "numpy", "--width", "0.0001", "--time-limit", "500"]
    outputs = ["--output", str(tmp_path), "--markdown", str(tmp_path / "own.md")]
    with subprocess.Popen(
        [sys.executable, "-m", "lockstep", *asked, *outputs],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(15)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    content = stored.load(tmp_path / "bench.json")
    assert (process.returncode, content["interrupted"]) == (130, True), err
    assert content["entries"][0]["repetitions"]
    for text in (out, *((tmp_path / name).read_text() for name in ("bench.md", "bench.html", "own.md"))):
        assert "interrupted: these are the repetitions that were finished" in text
        assert "AGREE" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sede"], "did you mean 'seed'"),
        (["--backend", "tensorflow"], "known backends"),
        (["--sizes", "rows=many"], "not a positive whole number"),
        (["--sizes", "parameters=100"], "no hidden layer"),
        (["--fail-over", "1.1"], "has no baseline"),
        (["--against", "no.json"], "benchmark cannot be read"),
        (["--against", "no.json", "--fail-over", "0.5"], "not a ratio"),
        (["--json", "-", "--markdown", "-"], "two outputs for one stdout"),
        (["--threads", "0"], "fix: give an int from 1"),
        (["--output", "/dev/null/below"], "cannot be written"),
        (["--json", "."], "the output is a folder"),
        (["--markdown", "/dev/null/below"], "cannot be written"),
    ],
)
def test_bad_input_exits_with_two(run, arguments, words):
    measured = Fake()
    status, out, err = run(*arguments, measure=measured)
    assert (status, out, measured.calls) == (2, "", [])
    assert words in err


def test_the_real_thing(tmp_path, monkeypatch):
    """Two backends, two processes each, and the machine itself."""
    monkeypatch.setattr(processes, "side_by_side", workers.in_process)
    status = cli.main(
        ["bench", "--backend", "numpy", "--backend", "jax", "--quick", "--output", str(tmp_path)]
    )
    content = json.loads((tmp_path / "bench.json").read_text())
    assert status == 0
    assert [one["verdict"] for one in content["entries"]] == ["AGREE", "AGREE"]
    for one in content["entries"]:
        assert len(one["repetitions"]) == 2
        assert one["figures"]["of_limit"] > 1
        assert one["figures"]["reproduced"]
    jax = content["entries"][1]["figures"]
    assert jax["compiled"] > jax["median"]  # a compilation takes long beside ten epochs of thirty rows
