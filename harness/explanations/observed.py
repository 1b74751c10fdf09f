"""Mistakes that are read off the loss, the gradients and the buffers of one step, of whatever is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from lockstep.backends.adoption import leaves
from lockstep.backends.problem import Array
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations.changes import (
    every_gradient,
    some_gradients,
    swapped,
    times,
)
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.gradients import (
    ASCENDS,
)
from lockstep.harness.explanations.ratios import (
    WHOLE,
    Compared,
    Pair,
    compared,
    in_words,
)
from lockstep.harness.runs.intervention import Intervention, OnState

RUNNING = 1e-3
"""How near the difference of buffers must be to a multiple of the new and one of the old; three numbers decide two."""


CONVENTION = "a known convention: torch keeps the variance of n − 1, Flax and Haiku that of n"


def loss_multiplied(evidence: Evidence) -> Iterator[Intervention]:
    """Loss and gradients are the same multiple: another reduction, half squares."""
    ratio = _loss_ratio(evidence)
    if ratio is not None and compared(evidence, "gradient").differing:
        yield Intervention(
            f"multiplies the loss by {_count(ratio, evidence)}",
            on_gradients=every_gradient(times(ratio)),
            on_loss=lambda loss: ratio * loss,
        )


def loss_misreported(evidence: Evidence) -> Iterator[Intervention]:
    """The loss alone is a multiple: the training is right."""
    ratio = _loss_ratio(evidence)
    if ratio is not None and not compared(evidence, "gradient").differing:
        yield Intervention(
            f"multiplies the loss that it reports by {_count(ratio, evidence)}, not the one that it trains",
            on_loss=lambda loss: ratio * loss,
        )


def ascent(evidence: Evidence) -> Iterator[Intervention]:
    """Every gradient is a negative multiple."""
    ratio = compared(evidence, "gradient").common
    if ratio is not None and ratio < 0:
        plain = abs(ratio + 1) <= WHOLE
        description = ASCENDS if plain else f"multiplies its gradients by {in_words(ratio)}"
        yield Intervention(description, on_gradients=every_gradient(times(ratio)))


def gradients_multiplied(evidence: Evidence) -> Iterator[Intervention]:
    """Every gradient is a multiple; then each that differs is one of its own."""
    comparison = compared(evidence, "gradient")
    if comparison.common is not None and comparison.common > 0:
        yield Intervention(
            f"multiplies its gradients by {_count(comparison.common, evidence)}",
            on_gradients=every_gradient(times(comparison.common)),
        )
    elif (factors := known_ratios(comparison)) and any(factors.values()):
        yield _each_multiplied(factors)


def no_gradient(evidence: Evidence) -> Iterator[Intervention]:
    """All gradients that differ are zero."""
    factors = known_ratios(compared(evidence, "gradient"))
    if factors and not any(factors.values()):
        yield _each_multiplied(factors)


def _each_multiplied(factors: Mapping[str, float]) -> Intervention:
    parts = [
        f"multiplies the gradient of {name} by {in_words(one)}" if one else f"gives {name} no gradient"
        for name, one in factors.items()
    ]
    changes = {name: times(one) for name, one in factors.items()}
    return Intervention(", ".join(parts), on_gradients=some_gradients(changes))


def gradients_transposed(evidence: Evidence) -> Iterator[Intervention]:
    """Each gradient that is no multiple is the transposed one."""
    comparison = compared(evidence, "gradient")
    odd = _odd(comparison)
    pairs = [comparison.pairs[name] for name in odd]
    if odd and all(_square(one.left) and comparison.same(one.left.T, one.right) for one in pairs):
        yield Intervention(
            f"transposes the gradient of {', '.join(odd)}",
            on_gradients=some_gradients(dict.fromkeys(odd, np.transpose)),
        )


def gradients_swapped(evidence: Evidence) -> Iterator[Intervention]:
    """Two gradients are exchanged."""
    comparison = compared(evidence, "gradient")
    odd = _odd(comparison)
    if len(odd) != 2:
        return
    one, two = (comparison.pairs[name] for name in odd)
    if (
        one.left.shape == two.left.shape
        and comparison.same(one.left, two.right)
        and comparison.same(two.left, one.right)
    ):
        yield Intervention(f"exchanges the gradients of {odd[0]} and {odd[1]}", on_gradients=swapped(*odd))


def running_average(evidence: Evidence) -> Iterator[Intervention]:
    """Buffers move another way: the variance of n numbers for that of n − 1, another momentum.

    Both are (1 − m) b + m s u of the buffer b and a statistic u: their difference is α times the new buffer plus β times b.
    """
    comparison = compared(evidence, "buffers")
    coefficients: dict[str, tuple[float, float]] = {}
    for name, pair in comparison.differing.items():
        assert evidence.observed is not None
        before = evidence.observed.before.buffers.get(name)  # a count is no average
        solved = None if before is None else _combination(pair, before.astype(np.float64))
        if solved is None:
            return
        coefficients[name] = solved
    if coefficients:
        clearest = min(coefficients.values(), key=lambda one: _off_momentum(*one))
        factor = 1 + clearest[0] if _is_momentum(*clearest) else 0.0
        parts = ", ".join(f"{name} {_running(*one, factor)}" for name, one in coefficients.items())
        yield Intervention(f"keeps another running average: {parts}", on_buffers=_averaged(coefficients))


def _combination(pair: Pair, before: Array) -> tuple[float, float] | None:
    """The (α, β) of a buffer by least squares, or None. Of one that was 0, as if it moved further or less far: β is −α."""
    difference = (pair.right - pair.left).ravel()
    known = np.stack([pair.left.ravel(), before.ravel()], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(known, difference, rcond=None)
    left_over = np.abs(alpha * known[:, 0] + beta * known[:, 1] - difference).max(initial=0.0)
    if difference.size < 3 or left_over > max(pair.noise, RUNNING * np.abs(difference).max(initial=0.0)):
        return None
    return float(alpha), float(beta) if np.any(before) else -float(alpha)


def _running(alpha: float, beta: float, factor: float) -> str:
    """The meaning of the two coefficients, in words; the momentum makes one of the buffers move `factor` times as far, or 0."""
    share = 1 + alpha
    if factor and (count := _counted(share / factor)):
        return f"moves {factor:.6g} times as far, by another momentum, and {count}"
    if _is_momentum(alpha, beta):
        return f"moves {share:.6g} times as far, by another momentum"
    if count := _counted(share):
        return count
    return f"is {share:.6g} times the reference's, plus {beta:.6g} times what it was"


def _off_momentum(alpha: float, beta: float) -> float:
    """How far the difference of two buffers is from that of two momenta alone, as a share of it."""
    return abs(alpha + beta) / abs(alpha) if alpha else np.inf


def _is_momentum(alpha: float, beta: float) -> bool:
    return _off_momentum(alpha, beta) <= 1e-3


def _counted(ratio: float) -> str:
    """A ratio of (n − 1)/n or its inverse in words; empty where it is neither."""
    if not ratio or abs(ratio - 1) < RUNNING / 10:
        return ""
    n = 1 / abs(ratio - 1) + (ratio > 1)
    if n < 1.5 or abs(n - round(n)) >= 1e-3 * n:
        return ""
    which = "n, not by n − 1" if ratio < 1 else "n − 1, not by n"
    return f"divides the squares of {round(n)} numbers by {which} ({CONVENTION})"


def _averaged(coefficients: Mapping[str, tuple[float, float]]) -> OnState:
    """(α, β) by name of a buffer: α times the buffer and β times its value before the step are added to it."""

    def on_buffers(before: Snapshot, after: Snapshot) -> Snapshot:
        moved = dict(after.buffers)
        for name, (alpha, beta) in coefficients.items():
            value = after.buffers[name]
            moved[name] = (value + alpha * value + beta * before.buffers[name]).astype(value.dtype)
        return dataclasses.replace(after, buffers=moved)

    return on_buffers


def known_ratios(comparison: Compared) -> dict[str, float]:
    """The ratio of each array that differs; empty where one is no multiple."""
    known = {name: one for name, one in comparison.ratios.items() if one is not None}
    return known if len(known) == len(comparison.ratios) else {}


def _odd(comparison: Compared) -> list[str]:
    """The names of arrays that differ and are no multiples."""
    return [name for name, ratio in comparison.ratios.items() if ratio is None]


def _square(value: Array) -> bool:
    return value.ndim == 2 and value.shape[0] == value.shape[1] > 1


def _loss_ratio(evidence: Evidence) -> float | None:
    """The ratio of the suspect's loss to the witness', where they differ."""
    return compared(evidence, "loss").common


def _count(ratio: float, evidence: Evidence) -> str:
    """A ratio in words, with the count of the run that it equals."""
    assert evidence.observed is not None
    first = next(iter(leaves(evidence.observed.batch.x).values()))
    rows = len(first) if first.ndim else 1
    counts = {2.0: "", float(rows): "the rows of a batch"}
    outputs = list(evidence.stages("forward")[0].values())
    if outputs:
        counts |= {
            float(outputs[-1].size // max(rows, 1)): "the outputs",
            float(outputs[-1].size): "all elements",
        }
    for count, what in counts.items():
        as_many = f", as many as {what}" if count > 2 else ""
        if count > 1 and np.isclose(ratio, count, rtol=WHOLE):
            return f"{ratio:.6g}{as_many}"
        if count > 1 and np.isclose(ratio, 1 / count, rtol=WHOLE):
            return f"1/{count:g}{as_many}"
    return in_words(ratio)
