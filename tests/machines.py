"""`python -m tests.machines [LEVEL] [PYTEST'S ARGUMENTS]`: the tests, as processors with less than this one would run them.

Each library chooses its kernels by the processor, and with them the order of its sums. So a test may claim the same bits of
two runs of one kernel, but not of two kernels, and not a number that one processor gives.
"""

import json
import os
import subprocess
import sys

import numpy as np

LEVELS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_CBWR": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Prescott",
        "MKL_CBWR": "COMPATIBLE",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    },
}
"""Read when the libraries are loaded, and handed on to every process that a test starts."""

NUMERIC = ("tests/backends", "tests/harness", "tests/meta", "tests/test_pairs.py")
"""What trains; the rest is words, files and commands."""

LOOK = """
import json
import numpy, torch
from threadpoolctl import threadpool_info
blas = {one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"}
print(json.dumps([torch.backends.cpu.get_cpu_capability(), sorted(blas)]))
"""


def features(level):
    """NumPy's own kernels above the level, by the names of the installed version."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return [name for name in found if level == "sse" or "512" in name or name == "X86_V4"]


def environment(level):
    return {**os.environ, **LEVELS[level], "NPY_DISABLE_CPU_FEATURES": " ".join(features(level))}


def kernels(variables):
    """What torch and the BLAS of NumPy say that they use."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=variables, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def run(level, arguments):
    """The status of pytest; no test is run where the variables changed nothing."""
    ours, theirs = kernels(dict(os.environ)), kernels(environment(level))
    print(f"{level}: torch and BLAS use {theirs}, otherwise {ours}", flush=True)
    if theirs[0].lower() != LEVELS[level]["ATEN_CPU_CAPABILITY"]:
        raise SystemExit(
            f"torch does not run as {level}\n  got: {theirs[0]}\n  fix: ask on a processor that has it"
        )
    command = [
        sys.executable,
        "-m",
        "pytest",
        *(arguments or ["-n", "2", "--dist", "loadfile", "-q", *NUMERIC]),
    ]
    return subprocess.run(command, env=environment(level), check=False).returncode


def main(arguments):
    levels = [one for one in arguments[:1] if one in LEVELS] or list(LEVELS)
    rest = arguments[1:] if arguments[:1] == levels else arguments
    return max([run(level, rest) for level in levels])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
