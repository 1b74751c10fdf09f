"""Adopted code as an implementation: whoever drives a backend drives it, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lockstep.backends.protocol import UNDIVIDED, Unsupported
from lockstep.harness.adopt.renamed import Renamed
from lockstep.harness.adopt.side import Side, held
from lockstep.harness.adopt.task import Task
from lockstep.harness.mapping.mapping import Mapping as Names
from lockstep.harness.mapping.modules import Modules, modules_of

MASKS = "drawn by Lockstep, the same for all sides"


@dataclass(frozen=True)
class AdoptedCode:
    """One side, under the reference's names.

    Attributes:
        side: the trainer, where it starts, and its mapping.
        parameters: the reference's arrays that any side trains.
        shared: the arrays that all sides have.
        modules: which of the reference's modules is which of this side's.
        undivided: whether its steps are taken whole.
    """

    side: Side
    parameters: frozenset[str]
    shared: frozenset[str]
    modules: Modules
    undivided: bool = False

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.side.name

    def supports(self, spec: Task, /) -> Unsupported | None:
        """None: its own code trains on any batches, or raises."""
        return None

    def trainer(self, spec: Task, /) -> Renamed:
        """A trainer at the reference's start; the user's code is one and the same."""
        return Renamed(self.side, self.parameters, self.shared, self.modules, self.undivided)

    def environment(self) -> Mapping[str, str | int | bool]:
        """The trainer's own."""
        environment = dict(self.side.trainer.environment())
        return environment if self.side.masks is None else {**environment, "masks": MASKS}

    def remapped(self, mapping: Names, start: Side) -> AdoptedCode:
        """The same code at the reference's start under another mapping; `start` is the side under it."""
        side = dataclasses.replace(start, name=self.name, masks=self.side.masks, form=self.side.form)
        return dataclasses.replace(self, side=side, modules=modules_of(mapping, held(start.start)))


def implementations(sides: Sequence[Side]) -> list[AdoptedCode]:
    """The sides, the first of which is the reference, as they are compared: with the arrays that any of them trains and that all have."""
    parameters: set[str] = set()
    shared = set(sides[0].shapes)
    for side in sides:
        parameters |= side.canonical(side.start.parameters).keys()
        shared &= side.canonical(held(side.start)).keys()
    parameters &= shared
    return [
        AdoptedCode(
            side,
            frozenset(parameters),
            frozenset(shared),
            modules_of(side.mapping, sides[0].start.parameters),
            UNDIVIDED in side.trainer.capabilities,
        )
        for side in sides
    ]


def compared_alike(pair: tuple[AdoptedCode, AdoptedCode]) -> tuple[AdoptedCode, AdoptedCode]:
    """The two as they can be compared step by step: both by whole steps where the step of one cannot be taken apart."""
    undivided = any(one.undivided for one in pair)
    left, right = (dataclasses.replace(one, undivided=undivided) for one in pair)
    return left, right
