"""All checks of an optimizer, in the order in which a new one comes to pass them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lockstep.backends.adoption import AdoptionError
from lockstep.harness.conformance.optimizers import rules, sequences
from lockstep.harness.conformance.optimizers.pair import DidNotRun, Finding, Pair
from lockstep.harness.conformance.optimizers.sequences import Pattern
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import RAISED, describe


@dataclass(frozen=True)
class OptimizerCheck:
    """One rule for an optimizer.

    Attributes:
        name: what reports call it.
        reason: what is expected, and why.
        mend: where to look where it fails.
        find: (the pair, the dtype) -> what was found.
        pattern: of the gradients on which both are compared; None of a check of ours alone.
    """

    name: str
    reason: str
    mend: str
    find: Callable[[Pair, str], Finding]
    pattern: Pattern | None = None

    def run(self, pair: Pair, dtype: str) -> Finding:
        """Check; what a side raises is a finding.

        Raises:
            AdoptionError: a side cannot be compared at all.
        """
        try:
            with np.errstate(all="ignore"):  # what is not finite is judged by its numbers
                return self.find(pair, dtype)
        except DidNotRun as error:
            return error.finding
        except AdoptionError:
            raise
        except RAISED as error:  # whatever an optimizer raises
            return Finding(Verdict.DIFFER, describe(error))


def compared(pattern: Pattern, reason: str, mend: str) -> OptimizerCheck:
    """A check that both sides do the same on a sequence."""
    return OptimizerCheck(
        pattern.name, reason, mend, lambda pair, dtype: pair.on(pattern, dtype).compare(), pattern
    )


def first_update(pair: Pair, dtype: str) -> Finding:
    """Whether both do the same at the first update; to leave all where it was counts where later updates move it.

    A warm-up from 0 does that.
    """
    found = pair.on(sequences.FIRST, dtype)
    if found.still and pair.on(sequences.MANY, dtype).moved:
        return Finding(Verdict.AGREE)
    return found.compare()


OPTIMIZER_CHECKS = (
    OptimizerCheck(
        "form",
        "parameters that keep dtype and shape: one that grows to float64 is trained in another precision",
        "cast what is added to a parameter to its dtype; make no array of Python floats in the default dtype",
        rules.form,
    ),
    OptimizerCheck(
        "arguments kept",
        "gradients that are as they were: clipping, logging and accumulating read them after the update",
        "form g + λ w in a new array, not by add_ on the gradient",
        rules.arguments_unchanged,
    ),
    OptimizerCheck(
        "repeats",
        "two runs that are one run, to the bit: hidden random numbers make every comparison a matter of luck",
        "draw from a key or generator that stands in the state, and is seeded",
        rules.repeats,
    ),
    OptimizerCheck(
        "continues",
        "a run from a checkpoint that goes on as if it had not stopped, to the bit",
        "keep all that moves in the state that is saved: of torch self.state[p] and param_groups, of Optax the state",
        rules.continues,
    ),
    OptimizerCheck(
        sequences.FIRST.name,
        "the same parameters after one update, within rounding",
        "the learning rate, its sign, the bias correction at t = 1, the dampening of the first gradient",
        first_update,
        sequences.FIRST,
    ),
    compared(
        sequences.MANY,
        "the same parameters after every one of many updates, within rounding",
        "the averages' factors, the bias correction's count, the schedule, the decay",
    ),
    compared(
        sequences.CONSTANT,
        "the same sum of the same gradient: shows factors, corrections and a schedule",
        "the learning rate's schedule, the momentum's factor, the dampening",
    ),
    compared(
        sequences.ZERO,
        "the same of no gradient: decay alone, and no 0/0",
        "the weight decay, coupled or not, and epsilon, without which 0/0 is NaN",
    ),
    compared(
        sequences.STOPPING,
        "the same of what is remembered, after gradients that are zero from the fourth update on",
        "the momentum, and whether a zero gradient is passed over",
    ),
    compared(
        sequences.TINY,
        "the same of gradients far below epsilon: its place and size are all that counts",
        "epsilon: inside the root or outside, before the bias correction or after, and its size",
    ),
    compared(
        sequences.HUGE,
        "the same of gradients whose square is near to the largest float32",
        "a clip, and squares that overflow",
    ),
    compared(
        sequences.SPIKE,
        "the same after one gradient that is far larger than the others: what a maximum or an average remembers",
        "AMSGrad's maximum, the averages' factors, a clip",
    ),
    compared(
        sequences.SPARSE,
        "the same of elements that have a gradient at one update in three, or never",
        "0/0, an average over a parameter where it should be of each element, zeros that are passed over",
    ),
    compared(
        sequences.SIGN_CHANGES,
        "the same of gradients that turn",
        "Nesterov's form, the order of momentum and rate, what is done where the sign changes",
    ),
)
"""All of them."""

PATTERNS = tuple(one.pattern for one in OPTIMIZER_CHECKS if one.pattern is not None)
"""Those of the sequences on which both sides are compared."""
