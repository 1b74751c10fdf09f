"""Planted port bugs: what ported training code gets wrong, each with the stages at which it must be observed first.

A mutant is a row: its name, the stages and problems where it shows, how it is planted, and the explanation
that must be found. Sites and magnitudes are drawn from a seed. The faults are written here
independently: they share only the names of `lockstep.harness.explanations`, because its proposals are under test.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.backends.errors import UnknownNameError
from lockstep.harness.selftest.mutants.carried import CARRIED
from lockstep.harness.selftest.mutants.data import DATA
from lockstep.harness.selftest.mutants.forward import AVERAGES, FORWARD_PASS, LOSSES
from lockstep.harness.selftest.mutants.gradients import GRADIENTS, SURROUNDINGS
from lockstep.harness.selftest.mutants.mutant import Mutant
from lockstep.harness.selftest.mutants.optimizer import OPTIMIZERS, UPDATES

__all__ = ["MUTANTS", "Mutant", "named"]

MUTANTS: tuple[Mutant, ...] = (
    *DATA,
    *FORWARD_PASS,
    *LOSSES,
    *GRADIENTS,
    *SURROUNDINGS,
    *OPTIMIZERS,
    *UPDATES,
    *AVERAGES,
    *CARRIED,
)
"""All that are planted."""


def named(texts: Sequence[str] | None) -> list[Mutant]:
    """The mutants whose name holds one of `texts`; all where there are no texts.

    Raises:
        UnknownNameError: no name holds one of them.
    """
    for text in texts or ():
        if not any(text in one.name for one in MUTANTS):
            raise UnknownNameError(
                "no planted bug has that in its name", repr(text), "leave --mutant out to see all"
            )
    return [one for one in MUTANTS if not texts or any(text in one.name for text in texts)]
