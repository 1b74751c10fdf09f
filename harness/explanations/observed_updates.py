"""Mistakes that are read off the update which one step makes of equal gradients, of whatever is trained, or tried from a short list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.harness.explanations.changes import (
    never_updated,
    plus_parameters,
    plus_shares,
    updates_times,
)
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.observed import (
    known_ratios,
)
from lockstep.harness.explanations.optimizer import (
    with_args,
)
from lockstep.harness.explanations.ratios import (
    WHOLE,
    Compared,
    Pair,
    arrays_of,
    common_ratio,
    compared,
    in_words,
    largest,
)
from lockstep.harness.runs.intervention import Intervention, OnGradients, StepContext

DECAYS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1)
"""Weight decays that are in use."""

DAMPENINGS = (0.01, 0.1, 0.5, 0.9, 0.99)
"""And dampenings."""

SHARE = 1e-3
"""How near the difference of updates must be to one share of all parameters."""


def ascent(evidence: Evidence) -> Iterator[Intervention]:
    """Every update is the opposite."""
    comparison = compared(evidence, "update")
    if comparison.common is not None and abs(comparison.common + 1) <= WHOLE:
        yield Intervention(
            "moves the other way: a gradient is subtracted that should be added, or added that should be subtracted",
            on_update=updates_times(dict.fromkeys(comparison.pairs, comparison.common)),
        )


def learning_rate(evidence: Evidence) -> Iterator[Intervention]:
    """Every update is a multiple."""
    comparison = compared(evidence, "update")
    ratio = comparison.common
    if not ratio or abs(ratio + 1) <= WHOLE:
        return
    words = in_words(ratio)
    description = f"updates {words} times as far: its learning rate is {words} times the reference's"
    if evidence.problem is not None:
        rate = ratio * evidence.problem.optimizer.args["learning_rate"]
        yield from with_args(evidence.problem, description, learning_rate=rate)
    yield Intervention(description, on_update=updates_times(dict.fromkeys(comparison.pairs, ratio)))


def updates_multiplied(evidence: Evidence) -> Iterator[Intervention]:
    """Each update that differs is a multiple of its own."""
    comparison = compared(evidence, "update")
    factors = known_ratios(comparison)
    if comparison.common is None and any(factors.values()):
        parts = [
            f"updates {name} {in_words(one)} times as far" if one else f"never updates {name}"
            for name, one in factors.items()
        ]
        yield Intervention(", ".join(parts), on_update=updates_times(factors))


def untouched(evidence: Evidence) -> Iterator[Intervention]:
    """All updates that differ are zero."""
    factors = known_ratios(compared(evidence, "update"))
    if factors and not any(factors.values()):
        description = ", ".join(f"never updates {name}" for name in factors)
        yield Intervention(description, on_update=never_updated(factors))


def decoupled_decay(evidence: Evidence) -> Iterator[Intervention]:
    """The updates differ by the same share of every parameter."""
    comparison = compared(evidence, "update")
    if not comparison.differing:
        return
    before = _before(evidence)
    shares = [
        Pair(before[name], one.right - one.left, one.noise)
        for name, one in comparison.differing.items()
        if largest(before[name])
    ]
    share = common_ratio(shares, _share(shares))
    if share:
        names = [name for name in comparison.differing if largest(before[name])]
        more = "more" if share < 0 else "less"
        where = "" if len(names) == len(comparison.pairs) else f" of {', '.join(names)}"
        yield Intervention(
            f"decays the weights{where} by {abs(share):.6g} of themselves {more} at each update",
            on_update=plus_shares(dict.fromkeys(names, share)),
        )


def coupled_decay(evidence: Evidence) -> Iterator[Intervention]:
    """A share of the parameters is added to the gradient: it cannot be read off, so the common ones are tried."""
    comparison = compared(evidence, "update")
    if not comparison.differing or compared(evidence, "gradient").differing:
        return
    own = _own_decay(evidence, comparison)
    for rate in DECAYS:
        yield Intervention(
            f"adds {rate:g} times the parameters to the gradient", on_gradients=plus_parameters(rate)
        )
        if own:
            yield Intervention(
                f"couples the weight decay of {rate:g} with the gradient where the other decouples it",
                on_gradients=plus_parameters(rate),
                on_update=plus_shares(dict.fromkeys(comparison.pairs, -own)),
            )


def counted_ahead(evidence: Evidence) -> Iterator[Intervention]:
    """One update too many was counted, which no single step need show; for a formula `run.counter` proposes it."""
    if evidence.problem is None:
        yield Intervention("counts its updates from one too many", ahead=evidence.spec.accumulation)


def dampening(evidence: Evidence) -> Iterator[Intervention]:
    """All gradients but the first are damped: the common shares are tried."""
    if compared(evidence, "update").differing and not compared(evidence, "gradient").differing:
        for share in DAMPENINGS:
            yield Intervention(
                f"damps the gradient by {share:g}, but not at the first step",
                on_gradients=_damped(share, evidence.spec.accumulation),
            )


def _own_decay(evidence: Evidence, comparison: Compared) -> float | None:
    """The ratio of the witness' update to the parameters where gradients are zero; None where they are not zero, or none."""
    grads, _ = evidence.stages("gradient")
    if not grads or any(np.any(value) for value in grads.values()):
        return None
    before = _before(evidence)
    shares = [Pair(before[name], one.left, one.noise) for name, one in comparison.pairs.items()]
    return common_ratio(shares, _share(shares))


def _share(pairs: list[Pair]) -> float:
    """`SHARE` of the right sides' size, relative to the left ones'."""
    scale = max((one.scale for one in pairs), default=0.0)
    distance = max((largest(one.right) for one in pairs), default=0.0)
    return SHARE * distance / scale if scale else 0.0


def _before(evidence: Evidence) -> Arrays:
    assert evidence.observed is not None
    return {name: value.astype(np.float64) for name, value in arrays_of(evidence.observed.before).items()}


def _damped(share: float, accumulation: int) -> OnGradients:
    def on_gradients(grads: Arrays, context: StepContext) -> Arrays:
        if context.before.step < accumulation:
            return grads
        return {name: ((1 - share) * value).astype(value.dtype) for name, value in grads.items()}

    return on_gradients
