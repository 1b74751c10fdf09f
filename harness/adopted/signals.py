"""What tells parameters apart by function: their gradients, when both sides hold the same numbers as far as that is known.

A parameter whose counterpart is known is filled with random numbers, in both layouts; one that is not is filled with one
constant everywhere, which is the same in every layout, order and split. So the two sides compute the same function, and
the gradients of counterparts are the same numbers in two layouts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backends.adoption import Adopted
from backends.problem import Array, Batch
from harness.adopted.mapping import Link, Mapping, Slices
from harness.adopted.names import word

TRIALS = 2
"""Fills that are looked at together."""


@dataclass(frozen=True)
class Piece:
    """A parameter of one side, or a part of it."""

    name: str
    slices: Slices = ()

    def of(self, array: Array) -> Array:
        """The piece's part of an array of the parameter's shape."""
        return array[tuple(slice(*one) for one in self.slices)]

    def cut(self, shape: tuple[int, ...], axis: int, lengths: Sequence[int]) -> list[Piece]:
        """The parts of these lengths along an axis; `shape` is the piece's own."""
        given = [*self.slices, *((0, length) for length in shape[len(self.slices) :])]
        ends = list(itertools.accumulate(lengths, initial=given[axis][0]))
        whole = [*given[:axis]], [*given[axis + 1 : len(self.slices)]]
        return [Piece(self.name, (*whole[0], pair, *whole[1])) for pair in itertools.pairwise(ends)]

    def __str__(self) -> str:
        inside = ", ".join(f"{start}:{stop}" for start, stop in self.slices)
        return f"{self.name}[{inside}]" if inside else self.name


@dataclass(frozen=True)
class Fill:
    """What unknown parameters are filled with.

    Attributes:
        level: the constant, over the root of a typical width.
        biases: a bias' share of it; none where one side may have two biases for the other's one.
    """

    level: float
    biases: float


@dataclass(frozen=True)
class Signals:
    """The gradients of both sides under TRIALS fills, (trials, ...) by name; the right side's are scaled to the left's loss.

    Attributes:
        left, right: gradients.
        left_buffers, right_buffers: by how much the buffers move.
        losses: (trials, 2).
    """

    left: dict[str, Array]
    right: dict[str, Array]
    left_buffers: dict[str, Array]
    right_buffers: dict[str, Array]
    losses: Array

    @property
    def loss_apart(self) -> float:
        """How far the losses' ratio is from one, or from another number that is the same under every fill."""
        ratios = self.losses[:, 0] / self.losses[:, 1]
        if not np.isfinite(ratios).all():
            return np.inf
        return float(min(np.abs(ratios - 1).max(), np.abs(ratios / ratios[0] - 1).max()))

    def pair(self, left: Piece, right: Piece) -> tuple[Array, Array]:
        """Both pieces' gradients, (trials, ...)."""
        ours = np.stack([left.of(one) for one in self.left[left.name]])
        theirs = np.stack([right.of(one) for one in self.right[right.name]])
        return ours, theirs

    def distance(self, link: Link) -> float | None:
        """How far apart the gradients are through a link, of their size; None where there is no gradient to speak of."""
        ours, theirs = self.pair(Piece(link.left, link.left_slice), Piece(link.right, link.right_slice))
        turned = np.stack([link.to_left(one, ours.shape[1:]) for one in theirs])
        return _apart(ours, turned, self._least())

    def invariant_distance(self, left: Piece, right: Piece) -> float | None:
        """The same in whatever layout: of the numbers in order of size."""
        ours, theirs = (np.sort(one.reshape(len(one), -1), axis=1) for one in self.pair(left, right))
        return _apart(ours, theirs, self._least()) if ours.shape == theirs.shape else None

    def silent(self, piece: Piece, side: int) -> bool:
        """Whether a piece of the left (0) or right (1) side has no gradient to speak of."""
        gradients = (self.left, self.right)[side][piece.name]
        return all(np.abs(piece.of(one)).max(initial=0.0) <= self._least() for one in gradients)

    def _least(self) -> float:
        """A gradient below this is none: it is rounding, beside the largest."""
        return 1e-6 * max(float(np.abs(one).max(initial=0.0)) for one in self.left.values())


def signals(
    left: Adopted, right: Adopted, links: Sequence[Link], batch: Batch, seed: int, fill: Fill
) -> Signals:
    """Both sides' gradients.

    Args:
        left, right: whose.
        links: what is known.
        batch: what the step sees.
        seed: of the random numbers.
        fill: what everything else is filled with.
    """
    found: list[tuple[dict[str, Array], ...]] = []
    losses = []
    for trial in range(TRIALS):
        fills = _fills(left, right, Mapping(tuple(links)), [seed, trial], fill)
        (loss, ours, moved), (other, theirs, their_moved) = (
            _gradients(one, filled, batch) for one, filled in zip((left, right), fills, strict=True)
        )
        # A loss that is summed where the other is averaged is a finding for `verify`, not for the mapping.
        ratio = loss / other if other and abs(loss / other - 1) > 0.05 else 1.0
        found.append((ours, {name: ratio * one for name, one in theirs.items()}, moved, their_moved))
        losses.append((loss, other))
    gradients, theirs, buffers, other_buffers = (_stacked([one[part] for one in found]) for part in range(4))
    return Signals(gradients, theirs, buffers, other_buffers, np.array(losses))


def _stacked(trials: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([one[name] for one in trials]).astype(np.float64) for name in trials[0]}


def _fills(
    left: Adopted, right: Adopted, known: Mapping, seed: list[int], fill: Fill
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Both sides' parameters: random where they are linked, in both layouts, constant elsewhere."""
    initial, theirs = (one.read(one.init()).parameters for one in (left, right))
    typical = float(np.sqrt(np.mean([np.sqrt(one.size) for one in initial.values()])))
    level = fill.level * (1 + 0.3 * seed[-1]) / typical
    rng = np.random.default_rng(seed)
    random = {name: _random(value, level, rng) for name, value in initial.items()}
    ours, other = (
        {name: np.full(value.shape, level * _share(name, fill), value.dtype) for name, value in one.items()}
        for one in (initial, theirs)
    )
    for link in known.links:
        here, there = (tuple(slice(*one) for one in part) for part in (link.left_slice, link.right_slice))
        ours[link.left][here] = random[link.left][here]
        target = other[link.right]
        target[there] = link.to_right(random[link.left][here], target[there].shape)
    return ours, other


def _share(name: str, fill: Fill) -> float:
    return fill.biases if word(name).startswith("b") else 1.0


def _random(initial: Array, level: float, rng: np.random.Generator) -> Array:
    """The initial values with noise of their own size, so that nothing is zero, one, or the same."""
    size = max(float(np.sqrt(np.mean(np.square(initial)))), level)
    noisy: Array = (initial + 0.5 * size * rng.standard_normal(initial.shape)).astype(initial.dtype)
    return noisy


def _gradients(
    trainer: Adopted, fill: dict[str, Array], batch: Batch
) -> tuple[float, dict[str, Array], dict[str, Array]]:
    """Loss, gradients, and by how much the buffers move."""
    start = trainer.read(trainer.init())
    state = trainer.write(trainer.init(), dataclasses.replace(start, parameters=fill))
    state, loss, grads = trainer.gradients(state, batch)
    buffers = {name: value - start.buffers[name] for name, value in trainer.read(state).buffers.items()}
    return float(np.asarray(loss)), dict(trainer.read_grads(grads)), buffers


def _apart(left: Array, right: Array, least: float) -> float | None:
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return None
    size = max(float(np.abs(left).max(initial=0.0)), float(np.abs(right).max(initial=0.0)))
    return None if size <= least else float(np.abs(left - right).max(initial=0.0)) / size
