"""Building both sides from seeds, linking their parameters and comparing each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.side import held, shapes_of
from lockstep.harness.conformance.initialisers.builds import Fans, Sides
from lockstep.harness.conformance.initialisers.compare import Compared
from lockstep.harness.conformance.initialisers.copies import with_copies
from lockstep.harness.conformance.initialisers.linking import chosen, link
from lockstep.harness.conformance.initialisers.report import InitialiserReport
from lockstep.harness.conformance.initialisers.sample import Sample
from lockstep.harness.conformance.initialisers.scale import Counts, counts_of
from lockstep.harness.conformance.initialisers.structure import as_real
from lockstep.harness.conformance.initialisers.two_sample import TESTS
from lockstep.harness.conformance.initialisers.uncompared import uncompared
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.mapping import parts
from lockstep.harness.mapping.names import owner

FALSE_ALARM = 1e-6
"""The probability that two sides which initialise alike are said to differ, at most."""

LEAST_SEEDS = 4
"""From fewer, a number may repeat by chance: float32 draws of 24 bits are all the same once in 5e20."""

FEWEST_SEEDS, MOST_SEEDS = 8, 128
"""How many builds a side has where the user does not say."""

WANTED = 512
"""As many builds as give each parameter so many numbers: then twice the scale of a normal distribution is found."""

MOST_DRAWN = 1 << 28
"""Unless all builds of a side draw more numbers than that: some seconds."""

Build = tuple[Snapshot, Snapshot]
"""Both sides', from seeds of their own."""


def check_initialisers(
    left: Callable[..., Any],
    right: Callable[..., Any],
    *,
    mapping: Any = None,
    seeds: int | None = None,
    first_seed: int = 0,
    false_alarm: float = FALSE_ALARM,
) -> InitialiserReport:
    """Compare how two sides initialise: each builds itself from several seeds, by itself.

    A side is a function that returns a torch module or state dict, a tree of JAX or NumPy arrays, or an adopted trainer. It is
    given the seed if it has one argument without a default, or one named `seed`. The global generators of torch, NumPy
    and Python are seeded in any case, and afterwards as they were. Numbers that no seed changes are compared exactly; of
    numbers that are drawn the distributions are compared by rank tests.

    Args:
        left: the reference.
        right: the port.
        mapping: from the left side's names to the right side's, as of `verify_adopted`; by default by names and shapes that
            leave no choice.
        seeds: how many each side is built from, at least 4; by default 8 to 128, as many as small parameters need.
        first_seed: where the seeds begin.
        false_alarm: the probability that two sides which initialise alike are said to differ, at most.

    Raises:
        LockstepError: a side cannot be built or is not known, or the mapping does not fit.
    """
    _check_numbers(seeds, first_seed, false_alarm)
    sides = Sides(left, right, first_seed)
    firsts = (sides.build(0), sides.build(1))
    linked = link(mapping, *firsts[0])
    links = [chosen(one, firsts) for one in linked.pairs]
    count = _wanted(links, firsts) if seeds is None else seeds
    builds = itertools.chain(firsts, map(sides.build, range(2, count)))
    samples = _samples(links, builds, count)
    level = false_alarm / (TESTS * max(1, len(links)))
    outcomes = [
        Compared(sides.names, one, both, _counts(one, sides, firsts[0]), level).outcome()
        for one, both in zip(links, samples, strict=True)
    ]
    outcomes = with_copies(outcomes, links, sides.names, firsts)
    outcomes += uncompared(linked, sides.names, firsts[0])
    return InitialiserReport(
        *sides.names, count, tuple(outcomes), tuple(_shared(sides, firsts)), linked.left_out, false_alarm
    )


def _check_numbers(seeds: int | None, first_seed: int, false_alarm: float) -> None:
    """Raise an AdoptionError unless a test can be made of them."""
    if seeds is not None and not (isinstance(seeds, int) and seeds >= LEAST_SEEDS):
        raise AdoptionError("too few seeds to compare", repr(seeds), f"give {LEAST_SEEDS} or more, or none")
    if not (isinstance(first_seed, int) and 0 <= first_seed < 1 << 31):
        raise AdoptionError("the first seed is none", repr(first_seed), "give a number from 0 to 2^31 - 1")
    if not 0 < false_alarm < 1:
        fix = "give one between 0 and 1; 1e-6 by default"
        raise AdoptionError("the false alarm is no probability", repr(false_alarm), fix)


def _wanted(links: Sequence[Link], firsts: Sequence[Build]) -> int:
    """How many seeds give every parameter that is drawn the numbers WANTED."""
    pairs = zip(*(_pairs(links, one) for one in firsts), strict=True)
    drawn = [max(int((one != other).sum()) for one, other in zip(*both, strict=True)) for both in pairs]
    smallest = min((one for one in drawn if one), default=WANTED)
    most = max(FEWEST_SEEDS, MOST_DRAWN // max(1, sum(drawn)))
    return min(max(FEWEST_SEEDS, math.ceil(WANTED / smallest)), MOST_SEEDS, most)


def _pairs(links: Sequence[Link], build: Build) -> Iterator[tuple[Array, Array]]:
    """What each link pairs in one build of both sides."""
    left, right = map(held, build)
    for one in links:
        ours, theirs = parts(one, left[one.left], right[one.right])
        yield as_real(ours), as_real(theirs)


def _samples(links: Sequence[Link], builds: Iterable[Build], count: int) -> list[tuple[Sample, Sample]]:
    """What the builds draw for each pair."""
    samples: list[tuple[Sample, Sample]] = []
    for build in builds:
        for at, pair in enumerate(_pairs(links, build)):
            if len(samples) == at:
                samples.append((Sample(count, pair[0].size), Sample(count, pair[1].size)))
            for sample, values in zip(samples[at], pair, strict=True):
                sample.add(values)
    return samples


def _counts(one: Link, sides: Sides, build: Build) -> Counts:
    """What the scale of a parameter may depend on, by whichever side's framework states how it counts."""
    for builder, snapshot, name in zip(sides.builders, build, (one.left, one.right), strict=True):
        if builder.fans(name, (2, 2)) is not None:
            return _counts_of(name, snapshot, builder.fans)
    return _counts_of(one.left, build[0], sides.builders[0].fans)


def _counts_of(name: str, snapshot: Snapshot, fans: Fans) -> Counts:
    shapes = shapes_of(held(snapshot))
    siblings = {
        other: its for other, its in shapes.items() if other != name and _module(other) == _module(name)
    }
    return counts_of(name, shapes[name], siblings, fans)


def _module(name: str) -> str:
    """The module that owns a parameter; of bare names the model itself."""
    return "" if owner(name) == name else owner(name)


def _shared(sides: Sides, firsts: Sequence[Build]) -> Iterator[tuple[str, str]]:
    """The parameters that two builds of a side hold in the same memory, with the side's name."""
    for name, (one, other) in zip(sides.names, zip(*firsts, strict=True), strict=True):
        for parameter, values in one.parameters.items():
            if np.shares_memory(values, other.parameters[parameter]):
                yield name, parameter
