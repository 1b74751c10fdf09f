"""What the harness itself costs: comparing, the budget, the exact reference, the report, and `verify` as a whole."""

import pytest

import lockstep
from benchmarks import by_hand
from benchmarks.paired import interleaved, ratio
from benchmarks.problems import least, seed, tall
from lockstep import backends
from lockstep.backends.exact.backend import ExactBackend
from lockstep.harness.core.compare import compare_runs, expected_of
from lockstep.harness.core.tolerance import choose
from lockstep.harness.core.verdict import combine
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.numerics.budget import measure, twins_for
from lockstep.harness.publish.folder import (
    write_report,
)
from lockstep.harness.report.document import to_document
from lockstep.harness.runs.free_run import free_run

BARE = (by_hand.numpy, by_hand.jax_scan, by_hand.torch)


def bench_compare(benchmark, stated, quick):
    """Two runs of so many steps: inputs, losses, final parameters."""
    problem = seed(10 if quick else 1_000)
    left, right = (free_run(backends.load(name), problem) for name in ("numpy", "torch"))
    tolerance = choose("float64", kind="fixed")

    def compared():
        return compare_runs(problem, left, right, tolerance, expected_of(problem))

    found = compared()
    numbers = sum(one.elements for one in found)
    benchmark.group = "harness"
    stated(verdict=combine(one.verdict for one in found).value, bytes=2 * 8 * numbers, flops=numbers)
    benchmark(compared)


@pytest.mark.parametrize("epochs", [10, 1_000])
def bench_budget(benchmark, agreed, stated, quick, epochs):
    """Bytes and flops are those of all twins."""
    benchmark.group = "harness"
    problem = seed(min(epochs, 20) if quick else epochs)
    twins = twins_for(problem)
    stated(verdict=agreed("numpy", problem), twins=twins, **least(problem, twins))
    benchmark.pedantic(measure, args=(problem,), rounds=2 if quick else 5)


@pytest.mark.parametrize("epochs", [10, 100])
def bench_exact(benchmark, agreed, stated, quick, epochs):
    """Bytes and flops are those of training in float64; balls need many times more."""
    benchmark.group = "harness"
    problem = seed(min(epochs, 5) if quick else epochs)
    stated(verdict=agreed("numpy", problem), **least(problem))
    benchmark.pedantic(ExactBackend().enclosure, args=(problem,), rounds=2 if quick else 5)


def bench_report(benchmark, stated, tmp_path):
    """All files of the seed's report; bytes are those that are written."""
    content = to_document(lockstep.verify("seed"), manifest())
    benchmark.group = "harness"
    written = sum(path.stat().st_size for path in write_report(tmp_path, content))
    stated(verdict=content["verdict"], bytes=written, flops=0)
    benchmark.pedantic(lambda: write_report(tmp_path, content), rounds=5, warmup_rounds=1)


def bench_verify(benchmark, stated, quick, rounds):
    """`verify` on three backends, compared and reported, against the three bare loops.

    Judged by a tolerance that is given. The fixed one finds JAX' and torch's plain sums over a million float32 rows, 7e-5 off; the
    budget, which explains them, is timed apart.
    """
    problem = tall(10**3 if quick else 10**6, 2, 60)
    warm = [make(problem) for make in BARE]

    def verified():
        return to_document(lockstep.verify(problem, dtypes=["float32"], rtol=1e-3, atol=1e-3), manifest())

    verdict = lockstep.Verdict(verified()["verdict"])
    assert verdict is lockstep.Verdict.AGREE
    loops = {
        "verify": verified,
        # As verify does it, each from its definition: XLA compiles the bare scan anew, too.
        "bare": lambda: [make(problem)() for make in BARE],
        "warm": lambda: [train() for train in warm],
    }
    seconds = interleaved(loops, min(rounds, 9))
    for peer in ("warm", "bare"):
        middle, low, high = ratio(seconds, "verify", peer)
        print(
            f"\nverify / {peer} loops, {len(problem.x)} x 2, 60 epochs: {middle:.2f} ({low:.2f} to {high:.2f})",
            end="",
        )
    benchmark.group = "harness"
    stated(
        verdict=verdict.value,
        ratio=middle,
        quartiles=[low, high],
        backends=list(backends.entries()),
        **least(problem, len(BARE)),
    )
    benchmark.pedantic(verified, rounds=1)
