"""`lockstep.bench`: verify, then time in fresh processes, in turn, until the medians are known well enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep import backends as registry
from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.problem import DTYPES, Problem
from lockstep.harness.benchmark import launch
from lockstep.harness.benchmark.cost import need_of
from lockstep.harness.benchmark.effort import Effort
from lockstep.harness.benchmark.limits import Limits, Prober
from lockstep.harness.benchmark.machine import Pinned, pin
from lockstep.harness.benchmark.proof import proofs
from lockstep.harness.benchmark.result import Benchmark, Timed
from lockstep.harness.benchmark.sample import Failure, Sample
from lockstep.harness.benchmark.schedule import Repeated, repeat
from lockstep.harness.benchmark.sizes import AXES, Sized, sweep
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.budget import Notify, no_op
from lockstep.harness.problems import find
from lockstep.harness.runs.workers import in_process

XDIST = "PYTEST_XDIST_WORKER"

Measure = Callable[[str, Problem, float, Pinned, float | None], Sample | Failure]
"""Runs one repetition, as `lockstep.harness.benchmark.launch.measure`."""

Probe = Callable[[list[int], list[str], Pinned], "dict[str, Any] | Failure"]
"""Measures the machine, as `lockstep.harness.benchmark.launch.probe`."""


def bench(
    problems: Problem | str | Path | Iterable[Problem | str | Path] = "seed",
    *,
    backends: Iterable[str] | None = None,
    dtypes: Iterable[str] | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    width: float = 0.1,
    time_limit: float = 300.0,
    quick: bool = False,
    certify: bool = False,
    notify: Notify = no_op,
    progress: Callable[[str], None] = lambda words: None,
    trainers: Any = in_process,
    measure: Measure = launch.measure,
    probe: Probe = launch.probe,
) -> Benchmark:
    """Verify, and time what agrees: a fresh process a repetition, backends in turn.

    Args:
        problems: one or several: a Problem, a name of the catalogue, or the path of a problem file.
        backends: registered names; by default all that train where none is named.
        dtypes: by default each problem's own.
        sizes: ``rows``, ``features``, ``parameters``, ``epochs`` -> values; several of one are a sweep.
        threads: of every process; by default as many as there are processors.
        width: repeat until the interval for the median is at most this share of it.
        time_limit: seconds for all repetitions together.
        quick: two short repetitions, whatever the width.
        certify: whether to find each backend's own error too.
        notify: is called with a sentence before a long computation.
        progress: is called with each repetition that is finished.
        trainers: the function that runs the verification's trainings.
        measure, probe: the functions that run a repetition, and measure the machine.

    Raises:
        LockstepError: a name, a problem or a size is not valid, or this runs under pytest-xdist; nothing was timed.
    """
    _refuse_xdist()
    effort, pinned = Effort.of(width, time_limit, quick), pin(threads)
    names = _names(backends)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    timed: list[Timed] = []
    try:
        for sized in _sized(problems, dtypes, sizes or {}):
            progress(f"verifying {sized.problem.name} {sized.problem.dtype}")
            proved = proofs(sized.problem, names, trainers, notify, certify, effort.epochs)
            need = need_of(sized.problem)
            timed += [Timed(sized, name, need, proved[name]) for name in names]
    except KeyboardInterrupt:
        return Benchmark(tuple(timed), pinned, Limits(), effort, True, load)
    prober = Prober(lambda: probe(*_probed(timed), pinned))
    repeated = _repeated(timed, effort, pinned, measure, prober, progress)
    done = [
        Timed(one.sized, one.backend, one.need, one.proof, *_samples(repeated, place))
        for place, one in enumerate(timed)
    ]
    return Benchmark(tuple(done), pinned, prober.limits(), effort, repeated.interrupted, load)


def _repeated(
    timed: Sequence[Timed],
    effort: Effort,
    pinned: Pinned,
    measure: Measure,
    prober: Prober,
    progress: Callable[[str], None],
) -> Repeated[int]:
    """The repetitions of what agrees, by place in `timed`."""

    def once(place: int, left: float | None) -> Sample | Failure:
        one = timed[place]
        sample = measure(one.backend, one.sized.problem, effort.seconds, pinned, left)
        progress(f"{one.sized.problem.name} {one.sized.problem.dtype} on {one.backend}")
        return sample

    shown = [place for place, one in enumerate(timed) if one.verdict is Verdict.AGREE]
    return repeat(shown, once, effort.enough, effort.limit, prober)


def _samples(repeated: Repeated[int], place: int) -> tuple[tuple[Sample, ...], str]:
    failure = repeated.failures.get(place, "")
    return (() if failure else tuple(repeated.samples.get(place, ()))), failure


def _probed(timed: Sequence[Timed]) -> tuple[list[int], list[str]]:
    """The sizes of data and the dtypes that the machine is measured with."""
    return sorted({one.need.data_bytes for one in timed}), sorted({one.sized.problem.dtype for one in timed})


def _refuse_xdist() -> None:
    if os.environ.get(XDIST):
        raise LockstepError(
            "benchmarks do not run under pytest-xdist",
            f"{XDIST}={os.environ[XDIST]}",
            "run them in a process of their own, without -n: several workers would time each other",
        )


def _names(backends: Iterable[str] | None) -> list[str]:
    names = list(dict.fromkeys(backends or registry.entries()))
    for name in names:
        registry.entry(name)
    return names


def _sized(
    problems: Problem | str | Path | Iterable[Problem | str | Path],
    dtypes: Iterable[str] | None,
    sizes: Mapping[str, Sequence[int]],
) -> list[Sized]:
    """Every problem in every dtype at every size; all of it is checked before anything runs."""
    for axis in sizes:
        if axis not in AXES:
            raise LockstepError("unknown size", repr(axis), f"give one of {', '.join(AXES)}")
    wanted = [problems] if isinstance(problems, (Problem, str, Path)) else list(problems)
    sized = []
    for problem in [one if isinstance(one, Problem) else find(one) for one in wanted]:
        for dtype in dict.fromkeys(dtypes or [problem.dtype]):
            if dtype not in DTYPES:
                raise ProblemError("dtype is not offered", repr(dtype), f"use one of {', '.join(DTYPES)}")
            sized += sweep(problem.replace(dtype=dtype), sizes)
    return sized
