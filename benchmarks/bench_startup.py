"""From start to verdict against the imports alone, as whole processes, interleaved."""

import statistics
import subprocess
import sys
import time

import pytest

IMPORTS = [sys.executable, "-c", "import torch, jax, haiku, optax"]
VERIFY = [sys.executable, "-m", "harness", "verify", "seed", "--quiet"]
PAIRS = 7


def seconds(command):
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


@pytest.mark.benchmark(group="start to verdict")
def bench_startup(benchmark):
    """The ratio is taken pair by pair; the machine's drift hits both of a pair."""
    seconds(IMPORTS), seconds(VERIFY)
    pairs = [(seconds(VERIFY), seconds(IMPORTS)) for _ in range(PAIRS)]
    ratios = sorted(verify / imports for verify, imports in pairs)
    benchmark.extra_info["ratio_median"] = statistics.median(ratios)
    benchmark.extra_info["ratio_range"] = [ratios[0], ratios[-1]]
    print(f"\nverify / imports: median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")
    benchmark.pedantic(seconds, args=(VERIFY,), rounds=1)
