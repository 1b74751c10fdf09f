"""Masks of dropout: drawn once, in NumPy, and given to every side in place of those that its own code would draw.

Masks are paired by experiment: one is enabled at a time, all others keep everything, and the losses must move alike.
Where no pair does that, the port is not right, and the order decides.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError, Draw, leaves
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Batch
from lockstep.harness.adopt.side import Side, step_of
from lockstep.harness.adopt.task import Task
from lockstep.harness.mapping.layouts import layouts
from lockstep.harness.mapping.link import FLOOR, Link

SEED = 0
"""The seed of the masks, with the step and the place of the draw."""

MOST_TRIED = 400
"""Pairs of draws that are tried out, in all their layouts together; each costs a step of both sides."""

SAME_RATE = 1e-6
"""The largest difference of two rates that storing one of them in float32 explains."""

PLAIN = Link("", "")
"""The layout that both sides have in common."""


@dataclass(frozen=True)
class Pair:
    """A draw of the reference, the one of the other side that is the same, and the layout in which it is.

    Attributes:
        left, right: the two draws.
        places: the number of each in its own side's order.
        link: its layout converts the left mask into the right one.
    """

    left: Draw
    right: Draw
    places: tuple[int, int]
    link: Link = PLAIN

    def masks(self, step: int) -> tuple[Array, Array]:
        """The mask of a step, for each side."""
        rng = np.random.default_rng([SEED, step, self.places[0]])
        mask = rng.random(self.left.shape) >= self.left.rate
        return mask, self.link.to_right(mask, self.right.shape)


def masked(sides: Sequence[Side], task: Task) -> list[Side]:
    """The sides, all with the same masks where their code draws any.

    Raises:
        AdoptionError: they do not draw alike, or the code of one fails where others draw.
    """
    if not any(_draws(side.trainer, task.data[0]) for side in sides):
        return list(sides)
    with_masks = [dataclasses.replace(side, masks=Masks(sides[0], side)) for side in sides]
    for side in with_masks:
        side.masked(0, task.data[0])
    return with_masks


def drawn(trainer: Adopted, batch: Batch) -> tuple[Draw, ...]:
    """The masks that a step draws.

    Raises:
        AdoptionError: the user's code fails.
    """
    with step_of(trainer):
        return trainer.draws(batch)


def _draws(trainer: Adopted, batch: Batch) -> bool:
    """Whether a step draws masks; not known of code that fails: its run will report that, or the first pairing."""
    try:
        return bool(trainer.draws(batch))
    except LockstepError:
        raise
    except Exception:
        return False


class Masks:
    """The masks of one side, step by step."""

    def __init__(self, reference: Side, side: Side) -> None:
        self._reference, self._side = reference, side
        self._pairs: dict[object, list[Pair]] = {}

    def __call__(self, step: int, batch: Batch) -> Batch:
        """The batch with the masks of this step.

        Raises:
            AdoptionError: on batches of these shapes the sides do not draw alike.
        """
        shapes = tuple((name, np.shape(one)) for name, one in leaves((batch.x, batch.y)).items())
        if shapes not in self._pairs:
            self._pairs[shapes] = paired(self._reference, self._side, batch)
        return _with_masks(batch, {one.places[1]: one.masks(step)[1] for one in self._pairs[shapes]})


def both_keeping_all(left: Adopted, right: Adopted, batch: Batch) -> tuple[Batch, Batch]:
    """The batch with masks that keep every element, for each side: in any order they are the same on both.

    Raises:
        AdoptionError: one draws more masks than the other, or at other rates, by which the kept elements are scaled.
    """
    ours, theirs = drawn(left, batch), drawn(right, batch)
    _check_number((left.name, right.name), ours, theirs)
    rates = np.array([sorted(one.rate for one in draws) for draws in (ours, theirs)])
    if np.ptp(rates, axis=0).max(initial=0.0) > SAME_RATE:
        for one, two in zip(ours, theirs, strict=True):
            _check_rate((left.name, right.name), one, two)
    return _keeping(batch, ours), _keeping(batch, theirs)


def paired(reference: Side, side: Side, batch: Batch) -> list[Pair]:
    """Which draw of the side is which of the reference's, in the reference's order.

    Raises:
        AdoptionError: they differ in number, in shape or in rate.
    """
    ours = drawn(reference.trainer, batch)
    if side.mapping is None:
        return [Pair(one, one, (at, at)) for at, one in enumerate(ours)]
    theirs = drawn(side.trainer, batch)
    _check_number((reference.name, side.name), ours, theirs)
    pairs = _Trial((reference, side), (ours, theirs), batch).pairs()
    for one in pairs:
        _check_rate((reference.name, side.name), one.left, one.right)
    return pairs


def _check_number(names: tuple[str, str], left: Sequence[Draw], right: Sequence[Draw]) -> None:
    if len(left) != len(right):
        counts = [
            f"{name} {len(draws)}" + (f" ({', '.join(one.place for one in draws)})" if draws else "")
            for name, draws in zip(names, (left, right), strict=True)
        ]
        raise AdoptionError(
            f"{names[0]} and {names[1]} do not draw as many masks",
            "; ".join(counts),
            "use dropout at the same places on both sides, and both in training mode or both in evaluation mode; what is "
            "drawn inside a while loop, in a function with a derivative of its own (jax.custom_vjp), or by other means than a Bernoulli draw, cannot be replaced: set its rate to 0",
        )


def _check_rate(names: tuple[str, str], left: Draw, right: Draw) -> None:
    if abs(left.rate - right.rate) > SAME_RATE:
        raise AdoptionError(
            f"{names[1]} drops at another rate than {names[0]}",
            f"{right.rate:.6g} in {right.place}, {left.rate:.6g} in {left.place}",
            "give both the intended rate; note that some code takes the probability to keep",
        )


class _Trial:
    """Two sides on one batch, with chosen masks."""

    def __init__(
        self, sides: tuple[Side, Side], draws: tuple[Sequence[Draw], Sequence[Draw]], batch: Batch
    ) -> None:
        self._sides, self._draws, self._batch = sides, draws, batch
        self._near = FLOOR[sides[0].trainer.dtype]
        self._left = MOST_TRIED
        shapes = [*sides[0].shapes.values(), *(one.shape for both in draws for one in both)]
        self._channels = sorted({length for shape in shapes for length in shape})
        self._plain = self._losses(())

    def pairs(self) -> list[Pair]:
        """In the order of their calls, unless the losses show another order."""
        count = len(self._draws[0])
        plain = [pair for at in range(count) if (pair := next(self._layouts(at, at), None))]
        if len(plain) == count and self._same(plain):
            return plain
        pairs: dict[int, Pair] = {}
        for at in range(count):
            taken = [one.places[1] for one in pairs.values()]
            others = sorted({*range(count)} - {*taken}, key=lambda other: (other != at, other))
            every = itertools.chain.from_iterable(self._layouts(at, other) for other in others)
            if pair := next((one for one in every if self._same([one])), None):
                pairs[at] = pair
        unmatched = sorted({*range(count)} - {one.places[1] for one in pairs.values()})
        rest = [at for at in range(count) if at not in pairs]
        pairs |= {at: self._in_order(at, other) for at, other in zip(rest, unmatched, strict=True)}
        return [pairs[at] for at in range(count)]

    def _in_order(self, at: int, other: int) -> Pair:
        """A pair that the losses do not decide: by order, where only one layout is possible."""
        ours, theirs = self._draws[0][at], self._draws[1][other]
        if ours.shape == theirs.shape:
            return Pair(ours, theirs, (at, other))
        layouts = list(self._layouts(at, other))
        if len(layouts) == 1:
            return layouts[0]
        left, right = self._sides
        raise AdoptionError(
            f"a mask of {right.name} cannot be made of the one of {left.name}",
            f"{theirs.shape} in {theirs.place}, {ours.shape} in {ours.place}",
            "let both drop the same: whole channels or single values, one mask a row or one for all (in Flax, "
            "broadcast_dims and broadcast_dropout; in JAX, one key for each row)",
        )

    def _layouts(self, at: int, other: int) -> Iterator[Pair]:
        ours, theirs = self._draws[0][at], self._draws[1][other]
        if ours.shape == theirs.shape:
            yield Pair(ours, theirs, (at, other))
        for link in layouts(ours.shape, theirs.shape, PLAIN, self._channels):
            yield Pair(ours, theirs, (at, other), link)

    def _same(self, pairs: Sequence[Pair]) -> bool:
        """Whether these masks move the losses of both sides by the same."""
        self._left -= 1
        if self._left < 0:
            return False
        with np.errstate(all="ignore"):
            ours, theirs = self._losses(pairs) / self._plain
        return bool(abs(ours - theirs) <= self._near * abs(ours))

    def _losses(self, pairs: Sequence[Pair]) -> Array:
        """The losses of both sides with these masks, where all others keep every element."""
        losses = []
        for index, side in enumerate(self._sides):
            masks = {one.places[index]: one.masks(0)[index] for one in pairs}
            losses.append(side.loss(_keeping(self._batch, self._draws[index], masks)))
        return np.array(losses)


def _keeping(batch: Batch, draws: Sequence[Draw], masks: Mapping[int, Array] = MappingProxyType({})) -> Batch:
    """The batch with these masks; all other masks keep every element."""
    return _with_masks(batch, {at: masks.get(at, np.ones(one.shape, bool)) for at, one in enumerate(draws)})


def _with_masks(batch: Batch, masks: Mapping[int, Array]) -> Batch:
    return batch._replace(masks={str(at): masks[at] for at in sorted(masks)})
