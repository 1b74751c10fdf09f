"""Repetitions and benchmarks made by hand: nothing is measured."""

import lockstep
from lockstep.harness.benchmark.sample import Failure, Sample

BASE = {"numpy": 0.010, "jax": 0.002, "torch": 0.030}


def sample(*runs, **changes):
    fields = {
        "started": 0.1,
        "imported": 0.5,
        "built": 0.01,
        "first": 0.8,
        "runs": runs or (0.01,),
        "result": 1.4,
        "before_bytes": 100 << 20,
        "peak_bytes": 140 << 20,
        "losses": "abc",
        "environment": {"version": "1.0", "device": "cpu"},
    }
    return Sample(**{**fields, **changes})


class Fake:
    """In place of a process: seconds from a table, each repetition somewhat longer than the one before."""

    def __init__(self, base=None, noise=0.001, **changes):
        self.base, self.noise, self.changes = {**BASE, **(base or {})}, noise, changes
        self.calls = []

    def __call__(self, backend, problem, seconds, pinned, left):
        self.calls.append(backend)
        factor = 1 + self.noise * self.calls.count(backend)
        took = self.base[backend]
        if isinstance(took, Failure):
            return took
        return sample(took * factor * len(problem.x) / 30, **self.changes)


def probe(sizes, dtypes, pinned):
    return {"copy": [[size, 1e10] for size in sizes], "matmul": [[dtype, 1e11] for dtype in dtypes]}


def bench(*problems, **options):
    given = {"backends": ["numpy", "torch"], "measure": Fake(), "probe": probe, **options}
    return lockstep.bench(problems or ("seed",), **given)
