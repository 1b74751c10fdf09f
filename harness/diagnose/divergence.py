"""Where a replay first diverges from the recording, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from lockstep.harness.core.compare import INPUTS, LOSS, Comparison, Run
from lockstep.harness.core.ledger import Ledger, Row
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Diagnosis, Kind
from lockstep.harness.diagnose.wording import place_of, values_of


def divergence(
    spec: RunSpec,
    runs: tuple[Run, Run],
    whole: Iterable[Comparison],
    after: Mapping[int, Iterable[Comparison]],
    ledger: Ledger,
) -> Diagnosis | None:
    """The first difference, in the order of the run; None if there is none and no stage was recorded.

    Args:
        spec: the run.
        runs: the recorded one and the one trained here.
        whole: inputs, losses and final states.
        after: the parameters after recorded steps.
        ledger: the recorded stages.
    """
    names = runs[0].backend, runs[1].backend
    free = Ledger(tuple(sorted(_free(spec, runs, whole, after), key=_order)))
    first, local = next(iter(free.rows), None), ledger.first
    parts = [
        f"{names[1]} first diverges from the recording at step {row.step}, in {place_of(row)}: "
        f"{values_of(row, names)}"
        for row in (first,)
        if row
    ]
    if local:
        parts.append(
            f"computed from the recorded state of step {local.step}, {place_of(local)} differs: "
            f"{values_of(local, names)}"
        )
    elif ledger.rows:
        parts.append(_agreed(ledger))
    if not parts:
        return None
    kind = Kind.LOCAL if local else Kind.NONE if not first else Kind.CARRIED if ledger.rows else Kind.UNJUDGED
    verdict = Verdict.DIFFER if first or local else ledger.verdict
    sentence = "; ".join(parts)
    return Diagnosis(spec, *names, verdict, kind, sentence, local or first, ledger=ledger, free=free)


def _agreed(ledger: Ledger) -> str:
    """The sentence about recorded stages of which none differs."""
    steps = f"step{'s' * (len(ledger.steps) > 1)} {', '.join(map(str, ledger.steps))}"
    words = "agree" if ledger.verdict is Verdict.AGREE else f"could not be judged ({ledger.verdict})"
    return f"computed from the recorded state, all recorded stages of {steps} {words}"


def _order(row: Row) -> tuple[int, bool]:
    """Parameters after k steps come before the loss of step k, which is computed from them."""
    return row.step, row.part == LOSS


def _free(
    spec: RunSpec,
    runs: tuple[Run, Run],
    whole: Iterable[Comparison],
    after: Mapping[int, Iterable[Comparison]],
) -> Iterator[Row]:
    """A row for each quantity of the whole run that differs."""
    for one in whole:
        if one.verdict is Verdict.DIFFER and one.quantity == LOSS and one.first_failing:
            yield _loss(one, runs)
        elif one.verdict is Verdict.DIFFER:
            yield _worst(one, _inputs_step(one) if one.quantity == INPUTS else spec.steps)
    for steps, rows in after.items():
        yield from (_worst(one, steps) for one in rows if one.verdict is Verdict.DIFFER)


def _inputs_step(one: Comparison) -> int:
    """The start, or the step whose batch is another one, where that is known."""
    return one.first_failing[0] if one.first_failing else 0


def _loss(one: Comparison, runs: tuple[Run, Run]) -> Row:
    """The row of the first step whose loss differs."""
    assert one.first_failing is not None
    assert one.tolerance is not None
    (step,) = one.first_failing
    left, right = (np.float64(run.trace.losses[step]) for run in runs if run.trace is not None)
    assert runs[0].trace is not None
    scale = one.tolerance.scale(np.nan_to_num(runs[0].trace.losses), True)
    limit = one.tolerance.limit(LOSS, scale)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = float(np.abs(left - right))
    return Row(
        step,
        f"free/{LOSS}",
        Verdict.DIFFER,
        one.reason,
        absolute=distance,
        scale=float(scale[step]),
        limit=float(limit[step]),
        left=float(left),
        right=float(right),
    )


def _worst(one: Comparison, step: int) -> Row:
    """The row of the element that is furthest beyond its limit."""
    row = Row(step, f"free/{one.quantity}", Verdict.DIFFER, one.reason)
    if one.worst is None or one.used is None:
        return row
    worst = one.worst
    scale = worst.absolute / worst.scaled if worst.scaled else 0.0
    limit = worst.absolute / one.used if one.used else 0.0
    return Row(
        step,
        row.name,
        row.verdict,
        "",
        "",
        worst.absolute,
        scale,
        limit,
        worst.index,
        worst.left,
        worst.right,
    )
