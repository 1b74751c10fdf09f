"""A whole training run: each backend, in each of its modes, beside the loops that one would write by hand."""

import os
import statistics

import pytest

from benchmarks import by_hand
from benchmarks.fits import PEERS, ours
from benchmarks.paired import interleaved, ratio, same
from benchmarks.problems import PROBLEMS, least, seed, tall
from lockstep import backends
from lockstep.backends.errors import DeviceUnavailableError
from lockstep.backends.protocol import Recording
from lockstep.harness.benchmark import memory
from lockstep.harness.benchmark.cost import need_of
from lockstep.harness.benchmark.probes import copy_rate
from lockstep.harness.core.verdict import Verdict

TRAINERS = [name for name in backends.known() if name != backends.CERTIFIED]
EAGER = {"jax:eager": 10}
"""Epochs of what takes a thousand times longer."""
PAIRS = [(name, peer) for name, peers in PEERS.items() for peer in peers]
RTOL = {"float64": 1e-12, "float32": 1e-3}
"""By which peers are the same job: their order of summation is their own."""


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", TRAINERS)
def bench_fit(benchmark, agreed, stated, quick, name, problem):
    trained = PROBLEMS[problem](quick)
    if name in EAGER:
        trained = trained.replace(epochs=min(trained.epochs, EAGER[name]))
    try:
        refusal = backends.load(name).supports(trained)
    except DeviceUnavailableError as error:
        pytest.skip(error.got)
    if refusal is not None:
        pytest.skip(refusal.reason)
    benchmark.group = f"fit, {problem}"
    stated(verdict=agreed(name, trained), epochs=trained.epochs, **least(trained))
    train = ours(name, trained)
    train()  # compiles
    benchmark(train)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("name", "peer"), PAIRS, ids=lambda value: value)
def bench_against(benchmark, agreed, stated, quick, rounds, name, peer, problem):
    """The ratio of a backend's `fit` to a peer, round by round: the machine's drift hits both."""
    trained = PROBLEMS[problem](quick)
    if peer == "notebook":
        trained = trained.replace(epochs=min(trained.epochs, 1_000 if "seed" in problem else 3))
    pair = {"ours": ours(name, trained), "theirs": PEERS[name][peer](trained)}
    same(pair, RTOL[trained.dtype])
    seconds = interleaved(pair, 3 if peer == "notebook" and name == "jax" else rounds)
    middle, low, high = ratio(seconds, "ours", "theirs")
    print(f"\n{name} / {peer}, {problem}: {middle:.3f} ({low:.3f} to {high:.3f})")
    benchmark.group = f"against, {problem}"
    stated(verdict=agreed(name, trained), ratio=middle, quartiles=[low, high], **least(trained))
    benchmark.pedantic(pair["ours"], rounds=1)


@pytest.mark.parametrize("shape", ["3 parameters", "4,097 parameters"])
@pytest.mark.parametrize("name", backends.entries())
def bench_recording(benchmark, agreed, stated, quick, rounds, name, shape):
    """The ratio of a run that keeps the parameters of every epoch to one that keeps the losses."""
    epochs = 20 if quick else 1_000
    trained = seed(epochs) if shape == "3 parameters" else tall(64, 4096, epochs)
    pair = {"kept": ours(name, trained, Recording(parameters=True)), "losses": ours(name, trained)}
    same(pair, RTOL[trained.dtype])
    middle, low, high = ratio(interleaved(pair, rounds), "kept", "losses")
    print(f"\n{name}, every epoch's {shape} kept / losses alone: {middle:.3f} ({low:.3f} to {high:.3f})")
    benchmark.group = f"recording, {shape}"
    stated(verdict=agreed(name, trained), ratio=middle, quartiles=[low, high], **least(trained))
    benchmark.pedantic(pair["kept"], rounds=1)


@pytest.mark.parametrize(("rows", "features"), [(10**7, 2), (10**5, 64)], ids=["1e7 x 2", "1e5 x 64"])
def bench_limit(benchmark, stated, quick, rounds, rows, features):
    """NumPy's run over the time in which this machine copies the bytes that it must read, round by round; its peak memory."""
    trained = tall(rows // 1000 if quick else rows, features, 10)
    need, processors = need_of(trained), len(os.sched_getaffinity(0))
    train = ours("numpy", trained)
    # In float64 by hand: over 1e7 rows JAX' and torch's own float32 sums are half a percent off, and verify says so.
    same({"float64": by_hand.numpy(trained.replace(dtype="float64")), "ours": train}, 1e-5)
    before = memory.resident()
    memory.forget_peak()
    train()
    held = 1 + (memory.peak() - before) / need.data_bytes
    rates: list[float] = []
    turns = {"run": train, "copy": lambda: rates.append(copy_rate(need.data_bytes, processors))}
    seconds = interleaved(turns, rounds)["run"]
    ratios = [
        one * rate / need.bytes for one, rate in zip(seconds, rates[1:], strict=True)
    ]  # the first warmed up
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"\nnumpy / copying, {len(trained.x)} x {features} float32: {middle:.2f} ({low:.2f} to {high:.2f}), peak {held:.2f} x the data"
    )
    benchmark.group = "limit"
    stated(verdict=Verdict.AGREE.value, ratio=middle, quartiles=[low, high], held=held, **least(trained))
    benchmark.pedantic(train, rounds=1)
