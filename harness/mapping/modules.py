"""Which module of one side is which of the other: those that own parameters that are linked."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.mapping.names import owner

OUTPUT = "forward/output"


@dataclass(frozen=True)
class Modules:
    """Pairs of modules: the reference's name -> the other's."""

    pairs: AnyMapping[str, str]

    def own(self, forward: Arrays) -> dict[str, Array]:
        """The reference's stages that can be compared."""
        return {
            name: value for name, value in forward.items() if name == OUTPUT or _module(name) in self.pairs
        }

    def paired(self, left: Arrays, right: Arrays) -> dict[str, tuple[Array, Array]]:
        """Both sides' values by the reference's stage, the other's in the reference's layout where one fits."""
        pairs = {}
        for name, value in left.items():
            kind, _, module = name.partition("/")
            other = f"{kind}/{self.other(module)}"
            if other in right and (fitted := fitting(value, right[other])) is not None:
                pairs[name] = value, fitted
        return pairs

    def other(self, module: str) -> str:
        """The other side's name of a module of the reference; empty where it has none."""
        return module if module == "output" else self.pairs.get(module, "")


def modules_of(mapping: Mapping | None, left: Arrays) -> Modules:
    """The modules that own linked parameters, where that leaves no choice.

    Args:
        mapping: from the reference's parameters to the other's; None: the same names.
        left: the reference's parameters, of which there is one side alone where there is no mapping.
    """
    links = (
        [(name, name) for name in left]
        if mapping is None
        else [(one.left, one.right) for one in mapping.links]
    )
    owners = {(owner(one), owner(two)) for one, two in links}
    pairs = {
        one: two
        for one, two in owners
        if sum(pair[0] == one for pair in owners) == 1 and sum(pair[1] == two for pair in owners) == 1
    }
    return Modules(pairs)


def _module(stage: str) -> str:
    return stage.partition("/")[2]


def fitting(left: Array, right: Array) -> Array | None:
    """The other's value in the reference's shape: as it is, or with its channels moved, whichever is nearer; or None."""
    if left.ndim != right.ndim:
        return None
    moved = [np.moveaxis(right, -1, 1), np.moveaxis(right, 1, -1)] if left.ndim > 2 else []
    fits = [one for one in (right, *moved) if one.shape == left.shape]
    return min(fits, key=lambda one: float(np.abs(left.astype(np.float64) - one).sum()), default=None)
