"""Mistakes that are read off the update which one step makes of equal gradients, of whatever is trained, or tried from a short list."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.harness.explanations.changes import (
    at_steps,
    clipped_to,
    enlarged_above,
    every_update_times,
    global_norm,
    never_updated,
    plus_parameters,
    plus_shares,
    updates_times,
)
from lockstep.harness.explanations.each_step import SHARE, before, closeness, decay_share, decayed
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
    common_ratio,
    compared,
    in_words,
)
from lockstep.harness.runs.intervention import Intervention, OnGradients, StepContext

DECAYS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1)
"""Weight decays that are in use."""

DAMPENINGS = (0.01, 0.1, 0.5, 0.9, 0.99)
"""And dampenings."""

ADDED = 1e-3
"""Share of an update, the most that 1e-6 added to a norm is thought to change it by: of a norm of 1e-3."""

ENLARGED = 2.0**40
"""Times a gradient: no digit is lost, and the square of its norm is far from the largest float32."""

MOST_NORMS = 16
"""Norms that are tried as the one from which gradients are clipped."""

FLOAT32 = 8 * float(np.finfo(np.float32).eps)
"""The most that a rate is off by that is computed in float32: a power of it may lose a few units."""


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
    # A round number first: where something else has moved the updates a little, what is read off is not exact.
    for one in dict.fromkeys((float(f"{ratio:.3g}"), ratio)):
        if one == 1 or abs(one - ratio) > WHOLE * abs(ratio):
            continue
        words = in_words(one)
        description = f"updates {words} times as far: its learning rate is {words} times the reference's"
        if evidence.problem is not None:
            rate = one * evidence.problem.optimizer.args["learning_rate"]
            yield from with_args(evidence.problem, description, learning_rate=rate)
        yield Intervention(description, on_update=updates_times(dict.fromkeys(comparison.pairs, one)))


def rescheduled(evidence: Evidence) -> Iterator[Intervention]:
    """Every update is a multiple, at each step another one."""
    ratios = _ratios(evidence)
    if _vary(ratios.values()) or 1 < len(ratios) < evidence.spec.steps:
        step = max(ratios, key=lambda one: abs(math.log(abs(ratios[one]))))
        words = f"updates {in_words(ratios[step])} times as far at step {step}, and otherwise than the other at {len(ratios) - 1} more"
        yield _updates_at_steps(ratios, f"{words}: it has another schedule of the learning rate")


def single_rate(evidence: Evidence) -> Iterator[Intervention]:
    """Every update is a multiple that rounding makes of a rate, at each step another one: of one ratio it is not known."""
    ratios = _ratios(evidence)
    tiny = all(abs(one - 1) <= FLOAT32 for one in ratios.values())
    if evidence.spec.dtype == "float64" and tiny and _vary(ratios.values()):
        yield _updates_at_steps(ratios, "computes its learning rate in float32")


def _vary(ratios: Collection[float]) -> bool:
    """Whether they differ by more than a thousandth of their distance from 1."""
    distances = [one - 1 for one in ratios]
    return len(distances) > 1 and max(distances) - min(distances) > 1e-3 * max(map(abs, distances))


def _updates_at_steps(ratios: Mapping[int, float], description: str) -> Intervention:
    return Intervention(
        description, on_update=at_steps({step: every_update_times(one) for step, one in ratios.items()})
    )


def _ratios(evidence: Evidence) -> dict[int, float]:
    """The ratio of each step in which all updates have one; none where no step was observed."""
    if evidence.observed is None:
        return {}
    return {one.step: one.ratio for one in evidence.steps() if one.ratio}


def clipped(evidence: Evidence) -> Iterator[Intervention]:
    """The first update that differs is shorter: all gradients were scaled down to one norm, and later ones are again."""
    ratio = compared(evidence, "update").common
    if evidence.problem is not None or ratio is None or not 0 < ratio < 1 or evidence.spec.steps < 2:
        return
    grads, _ = evidence.stages("gradient")
    norm = ratio * global_norm(grads)
    yield Intervention(f"clips its gradients to a norm of {in_words(norm)}", on_gradients=clipped_to(norm))


def added_to_norm(evidence: Evidence) -> Iterator[Intervention]:
    """A gradient that is clipped is divided by its norm, or by its norm plus 1e-6 as in torch's `clip_grad_norm_`.

    Gradients that are a power of two times as large are clipped to the same, and then 1e-6 is nothing beside their norm. Which
    gradients are clipped is not known: those above a norm, so each observed norm is tried.
    """
    comparison = compared(evidence, "update")
    distances = [one.distance / one.scale for one in comparison.differing.values()]
    if not distances or max(distances) > ADDED:
        return
    for norm in sorted(one.norm for one in evidence.steps())[-MOST_NORMS:]:
        enlarged = enlarged_above(norm * (1 - WHOLE), ENLARGED)
        yield Intervention(
            "divides a gradient that it clips by its norm, where the other adds 1e-6 to the norm",
            on_gradients=enlarged,
        )
        yield Intervention(
            "divides a gradient that it clips by its norm plus 1e-6, where the other adds nothing",
            on_suspect=Intervention(on_gradients=enlarged),
        )


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
    """The updates differ by the same share of every parameter: one share, or with a schedule one at each step."""
    comparison = compared(evidence, "update")
    if evidence.observed is None:
        return
    if share := decay_share(comparison, evidence):
        names: Sequence[str] = decayed(comparison, evidence)
        yield Intervention(
            f"decays the weights{_where(names, comparison)} by {abs(share):.6g} of themselves {_more(share)} at each update",
            on_update=plus_shares(dict.fromkeys(names, share)),
        )
    shares = {one.step: (one.decay, one.decayed) for one in evidence.steps() if one.decay is not None}
    if len(shares) > 1:
        (first, (begin, names)), *_, (last, (end, _)) = shares.items()
        yield Intervention(
            f"decays the weights{_where(names, comparison)} {_more(begin)}, as its schedule has it: by {abs(begin):.6g} of "
            f"themselves at step {first}, by {abs(end):.6g} at step {last}",
            on_update=at_steps(
                {step: plus_shares(dict.fromkeys(names, one)) for step, (one, names) in shares.items()}
            ),
        )


def _where(names: Collection[str], comparison: Compared) -> str:
    return "" if len(names) == len(comparison.pairs) else f" of {', '.join(names)}"


def _more(share: float) -> str:
    return "more" if share < 0 else "less"


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
    known = before(evidence)
    shares = [Pair(known[name], one.left, one.noise) for name, one in comparison.pairs.items()]
    return common_ratio(shares, closeness(shares, SHARE))


def _damped(share: float, accumulation: int) -> OnGradients:
    def on_gradients(grads: Arrays, context: StepContext) -> Arrays:
        if context.before.step < accumulation:
            return grads
        return {name: ((1 - share) * value).astype(value.dtype) for name, value in grads.items()}

    return on_gradients
