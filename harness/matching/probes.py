"""Probes: both sides' parameters are set to the same numbers, as far as their counterparts and layouts are known.

A parameter whose counterpart and layout are known is random. One whose counterpart is known, but not which of several
layouts, is as random as all of these allow: elements that they put in one place are equal. All else is one constant, which
is the same in every layout, order and split. So the two sides compute the same function.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.harness.mapping.layouts import orbits
from lockstep.harness.mapping.link import Link, Slices
from lockstep.harness.mapping.names import kind


@dataclass(frozen=True)
class Probe:
    """The values that unknown parameters are set to.

    Attributes:
        level: the constant, over the root of a typical width.
        biases: a bias' share of it; zero where one side may have two biases for the other's one.
    """

    level: float
    biases: float


def probe_parameters(
    starts: tuple[Snapshot, Snapshot],
    known: Sequence[Sequence[Link]],
    still: tuple[Collection[str], Collection[str]],
    seed: Sequence[int],
    probe: Probe,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Both sides' parameters, and the buffers that are set, too.

    Args:
        starts: what the two sides start from.
        known: the possible layouts of each pair; one where the layout is known.
        still: buffers of both sides that are set as parameters are.
        seed: of the random numbers; the last is the trial.
        probe: the values of everything else.
    """
    typical = float(np.sqrt(np.mean([np.sqrt(one.size) for one in starts[0].parameters.values()])))
    initial, theirs = (
        {**one.parameters, **{name: one.buffers[name] for name in names}}
        for one, names in zip(starts, still, strict=True)
    )
    level = probe.level * (1 + 0.3 * seed[-1]) / typical
    rng = np.random.default_rng(seed)
    linked = {links[0].left for links in known}
    random = {
        name: _random(value, level, rng, kind(name) == "var")
        for name, value in initial.items()
        if name in linked
    }
    ours, other = (
        {name: np.full(value.shape, level * _share(name, probe), value.dtype) for name, value in one.items()}
        for one in (initial, theirs)
    )
    filled: set[tuple[str, Slices]] = set()
    for links in known:
        link = links[0]
        here, there = (tuple(slice(*one) for one in part) for part in (link.left_slice, link.right_slice))
        numbers, target = random[link.left][here], other[link.right]
        if (link.right, link.right_slice) in filled:  # tied: another of the left side's is there already
            ours[link.left][here] = link.to_left(target[there], numbers.shape)
            continue
        filled.add((link.right, link.right_slice))
        if len(links) > 1:
            numbers = numbers.ravel()[orbits(links, numbers.shape, target[there].shape)]
        ours[link.left][here] = numbers
        target[there] = link.to_right(numbers, target[there].shape)
    return ours, other


def _share(name: str, probe: Probe) -> float:
    return probe.biases if kind(name) == "b" else 1.0


def _random(initial: Array, level: float, rng: np.random.Generator, positive: bool) -> Array:
    """The initial values with noise of their own size, so that nothing is zero, one, or the same; of a variance, no negative ones."""
    size = max(float(np.sqrt(np.mean(np.square(initial)))), level)
    noisy: Array = (initial + 0.5 * size * rng.standard_normal(initial.shape)).astype(initial.dtype)
    return np.abs(noisy) if positive else noisy
