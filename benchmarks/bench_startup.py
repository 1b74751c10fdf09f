"""From start to verdict against the imports alone, as whole processes, interleaved."""

import subprocess
import sys

import pytest

from benchmarks.paired import interleaved, ratio
from benchmarks.problems import least
from lockstep import backends
from lockstep.backends.problem import DTYPES
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems import find

VERIFY = [sys.executable, "-m", "lockstep", "verify", "seed", "--quiet"]
IMPORTS = {
    "every import": "import torch, jax, haiku, optax",
    "torch alone": "import torch",
    # Its first optimizer imports torch._dynamo, as long again: what every script that trains pays.
    "torch with an optimizer": "import torch; torch.optim.SGD([torch.zeros(1)], lr=0.1)",
    "jax alone": "import jax, haiku, optax",
    "numpy alone": "import numpy",
}


def starting(command):
    return lambda: subprocess.run(command, check=True, capture_output=True)


@pytest.mark.benchmark(group="start to verdict")
def bench_startup(benchmark, stated, quick):
    """Ratios are taken round by round; and how much longer than the slowest single import, in seconds."""
    imports = {name: starting([sys.executable, "-c", code]) for name, code in IMPORTS.items()}
    seconds = interleaved({"verify": starting(VERIFY), **imports}, 2 if quick else 7)
    alone = [name for name in IMPORTS if name.endswith("alone")]
    slowest = [max(each) for each in zip(*(seconds[name] for name in alone), strict=True)]
    over, over_used = (
        sorted(taken - 1.25 * most for taken, most in zip(seconds["verify"], each, strict=True))
        for each in (slowest, seconds["torch with an optimizer"])
    )
    for name in IMPORTS:
        middle, low, high = ratio(seconds, "verify", name)
        print(f"\nverify / {name}: median {middle:.2f} ({low:.2f} to {high:.2f})", end="")
    for what, each in (("the slowest import", over), ("torch with an optimizer", over_used)):
        print(f"\nverify - 1.25 x {what}: median {each[len(each) // 2]:.2f} s", end="")
    problem = find("seed")
    work = [least(problem.replace(dtype=dtype), len(backends.entries())) for dtype in DTYPES]
    stated(
        verdict=Verdict.AGREE.value,  # its exit status is 0, or `starting` had raised
        **{key: sum(one[key] for one in work) for key in work[0]},
        over_slowest=over,
        seconds=seconds,
    )
    benchmark.pedantic(starting(VERIFY), rounds=1)
