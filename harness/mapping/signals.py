"""What tells parameters apart by function: their gradients, when both sides hold the same numbers as far as that is known.

The two sides then compute the same function (`lockstep.harness.mapping.probes`), and the gradients of counterparts are the same
numbers in two layouts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Array, Batch
from lockstep.harness.adopt.training import step_of
from lockstep.harness.mapping.link import Link
from lockstep.harness.mapping.probes import Fill, fills
from lockstep.harness.mapping.slices import Piece, pair_of

TRIALS = 2
"""Fills that are looked at together."""


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
        ours, theirs = self.pair(*pair_of(link))
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
    left: Adopted,
    right: Adopted,
    known: Sequence[Sequence[Link]],
    batches: tuple[Batch, Batch],
    still: tuple[Collection[str], Collection[str]],
    seed: int,
    fill: Fill,
) -> Signals:
    """Both sides' gradients.

    Args:
        left, right: whose.
        known: by pair, the layouts that it may have.
        batches: what each side sees.
        still: buffers of both sides that are filled as parameters are.
        seed: of the random numbers.
        fill: what everything else is filled with.
    """
    found: list[tuple[dict[str, Array], ...]] = []
    losses = []
    for trial in range(TRIALS):
        filled = fills(left, right, known, still, [seed, trial], fill)
        (loss, ours, moved), (other, theirs, their_moved) = (
            one_step(*one) for one in zip((left, right), filled, batches, strict=True)
        )
        # A loss that is summed where the other is averaged is a finding for `verify`, not for the mapping.
        ratio = loss / other if other and abs(loss / other - 1) > 0.05 else 1.0
        found.append((ours, {name: ratio * one for name, one in theirs.items()}, moved, their_moved))
        losses.append((loss, other))
    gradients, theirs, buffers, other_buffers = (_stacked([one[part] for one in found]) for part in range(4))
    return Signals(gradients, theirs, buffers, other_buffers, np.array(losses))


def _stacked(trials: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([one[name] for one in trials]).astype(np.float64) for name in trials[0]}


def one_step(
    trainer: Adopted, fill: Mapping[str, Array], batch: Batch
) -> tuple[float, dict[str, Array], dict[str, Array]]:
    """Loss, gradients, and by how much the buffers move."""
    with step_of(trainer):
        start = trainer.read(trainer.init())
        parameters, buffers = (
            {name: fill.get(name, value) for name, value in one.items()}
            for one in (start.parameters, start.buffers)
        )
        state = trainer.write(
            trainer.init(), dataclasses.replace(start, parameters=parameters, buffers=buffers)
        )
        state, loss, grads = trainer.gradients(state, batch)
        moved = {name: value - buffers[name] for name, value in trainer.read(state).buffers.items()}
        return float(np.asarray(loss)), dict(trainer.read_grads(grads)), moved


def _apart(left: Array, right: Array, least: float) -> float | None:
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return None
    size = max(float(np.abs(left).max(initial=0.0)), float(np.abs(right).max(initial=0.0)))
    return None if size <= least else float(np.abs(left - right).max(initial=0.0)) / size
