"""Parameters that one side has twice, and sums: two whose gradients are the same, where the other side has one number for both."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator

from lockstep.harness.adopt.summed import same_gradient, with_sums
from lockstep.harness.mapping import names
from lockstep.harness.mapping.names import PLUS
from lockstep.harness.matching.stepped import Stepped


def summed(left: Stepped, right: Stepped) -> tuple[Stepped, Stepped]:
    """Both sides; the one that has as many numbers more than the other as its sums save has its sums in their place."""
    counts = [sum(math.prod(shape) for shape in side.parameters.values()) for side in (left, right)]
    more = 0 if counts[0] > counts[1] else 1
    side = (left, right)[more]
    sums = [*_sums(side)] if counts[0] != counts[1] else []
    saved = sum(math.prod(side.parameters[one]) for one, _ in sums)
    if not sums or saved != abs(counts[0] - counts[1]):
        return left, right
    trainer = with_sums(side.trainer, [PLUS.join(pair) for pair in sums], side.batch)
    joint = Stepped(trainer, side.batch, side.undivided)
    return (joint, right) if more == 0 else (left, joint)


def _sums(side: Stepped) -> Iterator[tuple[str, str]]:
    """Two biases of one shape that have one gradient, and no third that has it, too."""
    gradients = {
        name: one for name, one in side.own.gradients.items() if names.kind(name) == "b" and one.any()
    }
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, one in gradients.items():
        by_shape.setdefault(one.shape, []).append(name)
    pairs = [
        (one, two)
        for alike in by_shape.values()
        for one, two in itertools.combinations(alike, 2)
        if same_gradient(gradients[one], gradients[two], side.trainer.dtype)
    ]
    uses = Counter(name for pair in pairs for name in pair)
    yield from (_first(*pair) for pair in pairs if all(uses[name] == 1 for name in pair))


def _first(one: str, two: str) -> tuple[str, str]:
    """In the order of torch: the bias of the inputs is the first."""
    return (two, one) if "_hh_" in one else (one, two)
