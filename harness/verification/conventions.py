"""Whether what two optimizers keep differs by convention alone: then both make the same updates of the same gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.implementation import AdoptedCode
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.distance import is_whole
from lockstep.harness.numerics.budget import NEGLIGIBLE
from lockstep.harness.runs.stages import updates
from lockstep.harness.verification.slots import Pair

UPDATES, DISTURBED = 8, 2
"""Updates that both optimizers make of the same gradients, and the one before which a slot is disturbed.

Measured: a beta2 of 0.9985 in place of 0.999 changes the fourth update by 2e-4 of its largest, the eighth by 5e-4; float32's
`NEGLIGIBLE` is 3.5e-4. What is read at every fifth update alone, as Lookahead reads its slow weights, is still read after it was disturbed.
"""

SMALL = 2.0**-12
"""What the parameters are multiplied with, so that an update is not lost in their rounding: one of 1e-10 is in float32, at parameters near 1."""

STRONGER = 8.0
"""What a slot is multiplied with to see who reads it: enough to turn the sign of a sum with the next gradient, as Lion takes it."""


class _Made(NamedTuple):
    """What an optimizer makes of gradients: its updates, and its state after them."""

    updates: list[Arrays]
    state: Arrays


class Optimizers:
    """The optimizers of two sides, driven by the same gradients from the same parameters."""

    def __init__(self, spec: Task, left: AdoptedCode, right: AdoptedCode) -> None:
        self._spec, self._sides = spec, (left, right)
        self._known: tuple[list[Arrays], tuple[_Made, _Made]] | None = None

    def differ(self, pairs: Collection[Pair]) -> bool:
        """Whether arrays of their states that are not the same are a difference.

        They are none where both optimizers read them, and make the same updates all the same: a factor or an offset that the one keeps
        and the other applies. Where equal gradients make them equal, the run's gradients are what differs. Where that cannot be tried,
        because an update needs a loss, nothing is known, and it is no difference.

        Args:
            pairs: the arrays' names in the state of either side.
        """
        try:
            gradients, plain = self._plain()
            if not _same_updates(plain[0], plain[1], self._share) or self._same_state(pairs):
                return True
            disturbed = [
                self._made(code, gradients, [pair[side] for pair in pairs])
                for side, code in enumerate(self._sides)
            ]
        except Exception:  # a user's optimizer that is not made to be driven so
            return False
        return any(
            _same_updates(one, other, self._share) for one, other in zip(plain, disturbed, strict=True)
        )  # nobody reads it

    @property
    def _share(self) -> float:
        return NEGLIGIBLE[self._spec.dtype]

    def _same_state(self, pairs: Collection[Pair]) -> bool:
        """Whether equal gradients make the arrays equal."""
        left, right = self._plain()[1]
        values = [(left.state[one], right.state[other]) for one, other in pairs]
        largest = max(float(np.abs(one).max(initial=0.0)) for one, _ in values)
        return all(_near(one, other, self._share * largest) for one, other in values)

    def _plain(self) -> tuple[list[Arrays], tuple[_Made, _Made]]:
        """The gradients, and what each side's optimizer makes of them."""
        if self._known is None:
            gradients = self._gradients()
            left, right = self._sides
            self._known = gradients, (self._made(left, gradients), self._made(right, gradients))
        return self._known

    def _gradients(self) -> list[Arrays]:
        """Random ones, as large as the first of the run."""
        trainer = self._sides[0].trainer(self._spec)
        _, _, grads = trainer.gradients(trainer.init(), self._spec.data[0])
        first = trainer.read_grads(grads)
        largest = max(float(np.abs(one).max(initial=0.0)) for one in first.values())
        rng = np.random.default_rng(0)
        return [
            {
                name: (largest * rng.standard_normal(one.shape)).astype(one.dtype)
                for name, one in first.items()
            }
            for _ in range(UPDATES)
        ]

    def _made(self, code: AdoptedCode, gradients: Sequence[Arrays], disturbed: Collection[str] = ()) -> _Made:
        trainer = code.trainer(self._spec)
        state = trainer.init()
        before = trainer.read(state)
        small = {name: (SMALL * one).astype(one.dtype) for name, one in before.parameters.items()}
        state = trainer.write(state, dataclasses.replace(before, parameters=small))
        made: list[Arrays] = []
        for number, grads in enumerate(gradients):
            before = trainer.read(state)
            if disturbed and number == DISTURBED:
                state = trainer.write(state, _disturbed(before, disturbed))
            state = trainer.apply(state, trainer.write_grads(grads))
            made.append(updates(before.parameters, trainer.read(state).parameters))
        return _Made(made, trainer.read(state).optimizer)


def _same_updates(left: _Made, right: _Made, share: float) -> bool:
    """Whether all updates are the same but for a share of each array's largest."""
    return all(
        _near(one, theirs[name], share * float(np.abs(one).max(initial=0.0)))
        for ours, theirs in zip(left.updates, right.updates, strict=True)
        for name, one in ours.items()
        if name in theirs
    )


def _near(left: Array, right: Array, limit: float) -> bool:
    return bool((np.abs(left.astype(np.float64) - right) <= limit).all())


def _disturbed(snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    changed: Mapping[str, Array] = {
        name: (one + 1 if _counts(one) else STRONGER * one).astype(one.dtype)
        for name, one in snapshot.optimizer.items()
        if name in names
    }
    return dataclasses.replace(snapshot, optimizer={**snapshot.optimizer, **changed})


def _counts(array: Array) -> bool:
    """Whether it is a whole number, which torch keeps as a float."""
    return is_whole(array) or (array.ndim == 0 and float(array).is_integer())
