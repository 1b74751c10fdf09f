"""Parameters that a whole run cannot judge: their gradient is 0 but for rounding, and the optimizer makes whole steps of it.

The key biases of attention are such: softmax does not see them. Adam divides rounding by rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.diagnose.noise import above_noise, undecided
from lockstep.harness.verification.result import PARAMETER, Case, LeftOut


def without_unjudged(case: Case, diagnosis: Diagnosis) -> Case:
    """The case without the comparisons of such parameters of two sides, where they are all that leaves these undecided.

    Both sides' gradients of them are rounding alone at every step that was compared, and no stage of the lockstep run differs: it makes
    their updates of equal gradients, so that another decay or rate of one of them is a difference. Otherwise the case as it is.
    """
    pair = diagnosis.reference, diagnosis.backend
    names = {
        one.quantity
        for one in case.comparisons
        if (one.left, one.right) == pair and one.verdict is Verdict.INCONCLUSIVE
    }
    if case.of_pair(*pair) is not Verdict.INCONCLUSIVE or not _are_noise(names, diagnosis):
        return case
    kept = tuple(
        one for one in case.comparisons if (one.left, one.right) != pair or one.quantity not in names
    )
    listed = LeftOut(diagnosis.backend, PARAMETER, tuple(sorted(names)))
    return dataclasses.replace(case, comparisons=kept, left_out=(*case.left_out, listed))


def _are_noise(names: Collection[str], diagnosis: Diagnosis) -> bool:
    """Whether their gradients are rounding alone, those of other parameters are not, and nothing else is undecided."""
    rows, dtype = diagnosis.ledger.rows, diagnosis.problem.dtype
    gradients = {row.part for row in rows if row.kind == "gradient"}
    above = {row.part for row in above_noise(rows, dtype) if row.kind == "gradient"}
    unknown = {row.part for row in rows if row.kind == "gradient" and row.verdict is Verdict.SKIPPED}
    return (
        diagnosis.verdict not in (Verdict.DIFFER, Verdict.ERROR)
        and bool(above)
        and set(names) <= gradients - above - unknown
        and all(row.part in names for row in undecided(rows, dtype))
    )
