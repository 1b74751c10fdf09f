"""What is timed, what is not, and what it is told as; the processes are made, but for the last tests."""

import dataclasses
import html
import json
import re

import pytest
from jsonschema import Draft202012Validator

import lockstep
from lockstep import backends
from lockstep.backends.errors import LockstepError
from lockstep.harness.benchmark import bench as module
from lockstep.harness.benchmark import (
    document,
    units,
)
from lockstep.harness.benchmark.launch import launched, measure
from lockstep.harness.benchmark.machine import pin
from lockstep.harness.benchmark.proof import Proof, proofs, verified_epochs
from lockstep.harness.benchmark.sample import Failure, Sample
from lockstep.harness.benchmark.worker import repeated
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.documents.schema import load
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.numerics.budget import no_op
from lockstep.harness.problems import find
from lockstep.harness.report import (
    bench_markdown as markdown,
)
from lockstep.harness.report import (
    bench_tables as tables,
)
from lockstep.harness.report import (
    bench_terminal as render,
)
from lockstep.harness.report.html import bench as bench_page
from lockstep.harness.report.html.bench_plots import Plots
from lockstep.harness.runs.workers import in_process
from tests.harness.benchmark.made import Fake, bench, probe, sample


def content(found):
    return json.loads(document.dumps(document.to_document(found, manifest(), "lockstep bench")))


def words(found):
    from rich.console import Console

    console = Console(width=300)
    with console.capture() as captured:
        console.print(render.terminal(content(found)))
    return captured.get()


@pytest.fixture
def wrong(monkeypatch):
    """torch diverges from the reference."""

    def judged(problem, names, *rest):
        verdict = {"torch": Verdict.DIFFER}
        return {
            name: Proof(verdict.get(name, Verdict.AGREE), "far apart" if name in verdict else "", 10)
            for name in names
        }

    monkeypatch.setattr(module, "proofs", judged)


def test_figures_are_those_of_the_repetitions():
    found = content(bench(measure=Fake(noise=0.0)))
    torch = next(one for one in found["entries"] if one["backend"] == "torch")
    figures = torch["figures"]
    assert len(torch["repetitions"]) == 6  # the fewest whose interval has its coverage
    assert figures["median"] == pytest.approx(0.03)
    assert figures["per_epoch"] == pytest.approx(0.003)
    assert figures["examples_per_second"] == pytest.approx(30 * 10 / 0.03)
    assert figures["result"] == 1.4
    assert figures["compiled"] == pytest.approx(0.77)
    assert figures["risen_bytes"] == 40 << 20
    assert figures["of_limit"] == pytest.approx(0.03 / (7680 / 1e10))
    assert figures["precise"]
    assert figures["reproduced"]


def test_no_time_beside_another_verdict(wrong):
    measured = Fake()
    found = bench(measure=measured)
    assert set(measured.calls) == {"numpy"}
    assert not found.agrees
    entry = content(found)["entries"][1]
    assert (entry["verdict"], entry["figures"], entry["repetitions"]) == ("DIFFER", None, [])
    assert re.search(r"^torch +DIFFER +- *$", words(found), re.MULTILINE)
    assert "\ntorch: DIFFER: far apart" in words(found)


def test_not_even_what_was_measured_is_a_time_beside_another_verdict():
    (timed,) = bench(backends=["numpy"]).timed
    assert timed.summary is not None
    for verdict in set(Verdict) - {Verdict.AGREE}:
        assert dataclasses.replace(timed, proof=Proof(verdict)).summary is None
    assert dataclasses.replace(timed, failure="it crashed").summary is None


def test_a_real_difference_has_no_time(monkeypatch):
    inner = backends.load("torch")
    trainer = type(inner).trainer
    monkeypatch.setattr(
        type(inner), "trainer", lambda self, problem: trainer(self, problem.replace(y=problem.y * 1.001))
    )
    found = bench()
    assert [one.verdict for one in found.timed] == [Verdict.DIFFER, Verdict.DIFFER]
    assert all(one.summary is None for one in found.timed)


def test_the_reference_stands_where_anybody_confirms_it(monkeypatch):
    inner = backends.load("torch")
    trainer = type(inner).trainer
    monkeypatch.setattr(
        type(inner), "trainer", lambda self, problem: trainer(self, problem.replace(x=problem.x * 1.001))
    )
    found = proofs(find("seed"), ["numpy", "jax", "torch"], in_process, no_op)
    assert [one.verdict for one in found.values()] == [Verdict.AGREE, Verdict.AGREE, Verdict.DIFFER]
    assert "against numpy" in found["torch"].reason


def test_the_reference_alone_is_held_against_the_others():
    assert proofs(find("seed"), ["numpy"], in_process, no_op)["numpy"].verdict is Verdict.AGREE


def test_what_cannot_run_is_skipped_with_what_to_do(monkeypatch):
    monkeypatch.setattr(backends, "missing_modules", lambda name: ["torch"] if name == "torch" else [])
    found = bench(backends=["numpy", "jax", "torch"])
    assert [one.verdict.value for one in found.timed] == ["AGREE", "AGREE", "SKIPPED"]
    assert 'pip install "torch' in found.timed[2].reason


def test_a_process_that_fails_is_an_error():
    found = bench(measure=Fake({"torch": Failure("it crashed")}))
    assert (found.timed[1].verdict, found.timed[1].reason) == (Verdict.ERROR, "it crashed")
    assert not found.agrees


def test_a_noisy_machine_says_what_it_reached(monkeypatch):
    measured = Fake(noise=0.5)
    turned = iter(range(10**6))
    monkeypatch.setattr(module, "repeat", lambda *given: _by_hand(turned, *given))
    found = bench(measure=measured, width=0.05, time_limit=100)
    assert found.noisy
    assert re.search(r"too noisy.* within 0.05 of the median at 95%; reached: numpy \d", words(found))


def test_one_repetition_has_no_interval():
    shown = words(bench(width=0.05, time_limit=1e-9))
    assert "reached: numpy one repetition, torch one repetition" in shown
    assert "(0%)" not in shown


def _by_hand(turned, *given):
    from lockstep.harness.benchmark.schedule import repeat

    return repeat(*given, clock=lambda: float(next(turned)))


def test_losses_that_differ_between_repetitions_are_told():
    class Changing(Fake):
        def __call__(self, backend, *given):
            self.calls.append(backend)
            return sample(0.01, losses=str(len(self.calls)))

    assert "the losses differ between repetitions" in words(bench(measure=Changing()))
    assert "the losses differ" not in words(bench())


def test_an_interrupt_leaves_what_was_finished():
    class Interrupted(Fake):
        def __call__(self, *given):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(*given)

    found = bench(measure=Interrupted())
    assert found.interrupted
    assert sum(len(one.samples) for one in found.timed) == 3
    assert content(found)["interrupted"]
    assert "interrupted" in words(found)


def test_a_sweep_is_fitted():
    found = content(bench(sizes={"rows": (30, 300, 3000), "epochs": (4,)}, measure=Fake(noise=0.0)))
    growth = {one["backend"]: one for one in found["growth"]}
    assert growth["torch"]["exponent"] == pytest.approx(1)
    assert [point[0] for point in growth["torch"]["points"]] == [30, 300, 3000]
    assert {entry["size"]["epochs"] for entry in found["entries"]} == {4}


def test_a_device_has_no_limit_of_the_processors():
    found = content(bench(measure=Fake(environment={"device": "a GPU"}, device_bytes=1 << 30)))
    assert {one["figures"]["of_limit"] for one in found["entries"]} == {None}
    assert {one["figures"]["device_bytes"] for one in found["entries"]} == {1 << 30}
    (table,) = tables.tables(found)
    assert {dict(zip(table.head, row, strict=True))["on device"] for row in table.rows} == {"1 GiB"}


@pytest.mark.parametrize("options", [{}, {"quick": True}, {"sizes": {"rows": (30, 60)}}, {"certify": True}])
def test_documents_are_valid_and_every_form_of_them_is_written(options):
    found = content(bench(**options))
    Draft202012Validator(load("bench")).validate(found)
    assert markdown.render(found).count("| numpy |") >= 1
    html = bench_page.render(found)
    assert html.count("<svg") >= (3 if options.get("certify") else 2)
    assert "http" not in html.replace("http-equiv", "")


def test_the_limit_is_drawn_below_a_sweep():
    found = content(bench(sizes={"rows": (30, 300)}))
    assert "Dashed: the machine's limit" in html.unescape(bench_page.render(found))


def test_without_matplotlib_the_page_says_so(monkeypatch):
    monkeypatch.setattr("lockstep.harness.report.html.bench_plots.find_spec", lambda name: None)
    html = bench_page.render(content(bench()))
    assert "<svg" not in html
    assert "they need matplotlib" in html
    assert Plots().split(content(bench())["entries"]) is None


def test_names_are_escaped():
    found = content(bench(find("seed").replace(name="<script>|a\x1b[31m")))
    assert "<script>" not in bench_page.render(found)
    assert "&lt;script>|" not in markdown.render(found)
    assert "\x1b[31m" not in words(bench(find("seed").replace(name="a\x1b[31m")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backends": ["tensorflow"]}, "known backends"),
        ({"dtypes": ["float16"]}, "dtype is not offered"),
        ({"width": 0.0}, "width is not a share"),
        ({"width": float("nan")}, "width is not a share"),
        ({"time_limit": -1.0}, "time_limit is not a time"),
        ({"time_limit": float("inf")}, "time_limit is not a time"),
        ({"threads": 0}, "this machine does not have that many threads"),
        ({"threads": 10**6}, "this machine does not have that many threads"),
        ({"sizes": {"row": (1,)}}, "unknown size"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(options, message):
    measured = Fake()
    with pytest.raises(LockstepError, match=message):
        bench(measure=measured, **options)
    assert not measured.calls


def test_xdist_is_refused(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    with pytest.raises(LockstepError, match="do not run under pytest-xdist"):
        lockstep.bench("seed", measure=Fake(), probe=probe)


def test_the_verified_epochs_are_bounded_and_come_to_an_update():
    seed = find("seed")
    assert verified_epochs(seed.replace(epochs=5)) == 5
    assert verified_epochs(seed.replace(epochs=10**6)) == 100
    assert verified_epochs(find("tall")) == 5
    assert verified_epochs(seed.replace(epochs=100, accumulation=50), most=10) == 50


def test_runs_are_repeated_for_a_while_at_least_thrice_and_once_if_they_are_long():
    def timed(each):
        now = [0.0]

        def run():
            now[0] += each

        return len(repeated(run, 1.0, lambda: now[0]))

    assert timed(1e-6) == 100
    assert timed(0.0999) == 11
    assert timed(0.6) == 3
    assert timed(30.0) == 1


def test_a_process_measures_what_it_was_given():
    """The real thing: one process, pinned to one processor."""
    pinned = pin(1)
    found = measure("numpy", find("seed"), 0.01, pinned)
    assert isinstance(found, Sample), found
    assert len(found.runs) >= 3
    assert found.environment["processors"] == 1
    assert all(one > 0 for one in (*found.runs, found.started, found.imported, found.built, found.first))
    assert found.result >= found.started + found.imported + found.first
    assert found.peak_bytes >= found.before_bytes > 10 << 20
    again = measure("numpy", find("seed"), 0.01, pinned)
    assert again.losses == found.losses
    assert measure("numpy", find("seed").replace(epochs=9), 0.01, pinned).losses != found.losses


def test_a_process_that_dies_or_hangs_says_so():
    found = launched("train", (0.0, "nobody"), pin(), None)
    assert isinstance(found, Failure)
    assert "its process ended with 1: " in found.reason
    assert "was ended after 0 s" in measure("numpy", find("seed"), 5.0, pin(), 0.05).reason


def test_the_machine_is_measured():
    from lockstep.harness.benchmark import probes

    assert 1e8 < probes.copy_rate(1 << 22, 2) < 1e13
    assert 1e8 < probes.matmul_rate("float32") < 1e14


def test_an_exponent_has_no_sign_of_a_zero():
    assert [units.exponent(one) for one in (-0.001, 0.0, -0.01, 0.996)] == ["0.00", "0.00", "-0.01", "1.00"]


def test_tables_show_what_the_document_holds():
    (table,) = tables.tables(content(bench()))
    assert len(table.head) == len(table.rows[0]) == 15
    assert table.rows[0][1] == "AGREE (10 epochs)"
    assert table.title == "seed float64: 30 rows, 2 features, 3 parameters, 10 epochs, 10 steps"
