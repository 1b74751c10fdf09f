"""The ledger of a lockstep run: one row for each compared stage of each step, and which rows are to blame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array, Arrays
from lockstep.harness.core.distance import is_whole, ratio
from lockstep.harness.core.verdict import Verdict

_FORWARD = ("state", "batch", "forward")
_BACKWARD = (*_FORWARD, "loss", "cotangent")
_OPTIMIZER = ("state", "clipped", "accumulator", "optimizer")

INPUTS: Mapping[str, tuple[str, ...]] = {
    "given": (),
    "initial": ("given",),
    "state": (),
    "batch": (),
    "forward": _FORWARD,
    "loss": _FORWARD,
    "cotangent": _BACKWARD,
    "gradient": _BACKWARD,
    "buffers": _FORWARD,
    # From here on the reference's gradients are injected: what came before does not count.
    "clipped": ("state",),
    "accumulator": ("state",),
    "optimizer": ("state", "clipped", "accumulator"),
    "update": _OPTIMIZER,
    "parameters": (*_OPTIMIZER, "update"),
    "average": (*_OPTIMIZER, "update", "parameters"),
    "count": ("state",),
    "step": (
        *_BACKWARD,
        "gradient",
        "buffers",
        "clipped",
        "optimizer",
        "update",
        "parameters",
        "average",
        "count",
    ),
}
"""Kind of stage -> the kinds whose outputs of the same step it is computed from.

A kind among its own inputs is a chain: what follows a bad link is not blamed.
"""

UNDISTURBED = "undisturbed/"
"""Prefix of a second limit of a stage: of what rounding does to it where no disturbance takes another branch."""

COARSE = "coarse/"
"""Prefix of a second limit of a stage: of what rounding does to it where modules compute in half precision."""

LARGE = "rounding alone is as large as the value"
"""Why a row may be INCONCLUSIVE."""

EXACT = frozenset({"given", "initial", "state", "batch", "count"})
"""Kinds in which nothing is computed: every bit must agree."""


@dataclass(frozen=True)
class Row:
    """One stage of one step, compared.

    Attributes:
        step: from 0; the number of the batch.
        name: the stage, ``kind`` or ``kind/part``.
        verdict: AGREE; DIFFER; ERROR where both sides are not finite; INCONCLUSIVE where rounding alone is as large
            as the value, or no limit is known; SKIPPED where it cannot be compared.
        reason: why not AGREE.
        follows: the stage of the same step whose difference this one may come from; empty if its inputs agreed.
        absolute: the largest |left − right|.
        scale: the largest magnitude of the reference's array.
        limit: the largest |left − right| that passes.
        index: where the largest distance is.
        left, right: the reference's and the other's value there.
    """

    step: int
    name: str
    verdict: Verdict
    reason: str = ""
    follows: str = ""
    absolute: float = 0.0
    scale: float = 0.0
    limit: float = 0.0
    index: tuple[int, ...] = ()
    left: float | None = None
    right: float | None = None

    @property
    def kind(self) -> str:
        """The kind of stage: the name up to the first slash."""
        return self.name.partition("/")[0]

    @property
    def part(self) -> str:
        """The layer or parameter: the name after the first slash."""
        return self.name.partition("/")[2]

    @property
    def distance(self) -> float:
        """The largest distance over the reference's largest magnitude."""
        return float(ratio(np.float64(self.absolute), np.float64(self.scale)))  # type: ignore[arg-type]

    @property
    def blamed(self) -> bool:
        """Its inputs agree and its output differs."""
        return self.verdict is Verdict.DIFFER and not self.follows


@dataclass(frozen=True)
class Ledger:
    """All rows of a lockstep run, step by step and within a step in the order of computation."""

    rows: tuple[Row, ...]

    @property
    def blamed(self) -> list[Row]:
        """The rows whose inputs agreed and whose output does not."""
        return [row for row in self.rows if row.blamed]

    @property
    def first(self) -> Row | None:
        """The first row to blame."""
        return next(iter(self.blamed), None)

    @property
    def without_blame(self) -> str:
        """A clause about steps none of whose stages is to blame."""
        failed = next((row for row in self.rows if row.verdict is Verdict.ERROR), None)
        if failed is None:
            return "every step that was compared by itself agrees"
        return f"step {failed.step} could not be compared by itself: {failed.reason}"

    @property
    def steps(self) -> list[int]:
        """The steps that were compared."""
        return sorted({row.step for row in self.rows})

    @property
    def verdict(self) -> Verdict:
        """DIFFER if any row differs, ERROR if the reference diverged, AGREE if something was compared and all of it agrees."""
        verdicts = {row.verdict for row in self.rows}
        for verdict in (Verdict.DIFFER, Verdict.ERROR, Verdict.AGREE):
            if verdict in verdicts:
                return verdict
        return Verdict.INCONCLUSIVE


def compare_stages(
    step: int,
    left: Arrays,
    right: Arrays,
    limits: Mapping[str, float],
    out_of_reach: Mapping[str, str] | None = None,
) -> list[Row]:
    """The rows of one step, with blame.

    Args:
        step: its number, from 0.
        left, right: the reference's and the other's stages, in the order of computation.
        limits: the largest distance that passes, by stage; the kinds in EXACT need none. A gradient may have a second one,
            with the prefix UNDISTURBED: where both forward passes are the same to the bit, both sides are at the same point of a
            function that bends or jumps there, and that limit decides.
        out_of_reach: stages, or kinds of them, that cannot be compared -> why.
    """
    unreachable = out_of_reach or {}
    rows = []
    for name in dict.fromkeys((*left, *right)):
        reason = unreachable.get(name) or unreachable.get(name.partition("/")[0])
        if reason:
            rows.append(Row(step, name, Verdict.SKIPPED, reason))
        elif name not in left or name not in right:
            side = "the reference" if name not in left else "the other side"
            rows.append(Row(step, name, Verdict.DIFFER, f"missing from {side}"))
        else:
            limit = 0.0 if is_exact(name) else limits.get(name, np.nan)
            rows.append(compare(step, name, left[name], right[name], limit))
    return _with_blame(_undisturbed(rows, limits))


def _undisturbed(rows: Sequence[Row], limits: Mapping[str, float]) -> list[Row]:
    """The rows; gradients that nothing but another branch makes undecided are judged at the one point where both sides are."""
    forward = [row for row in rows if row.kind in (*_FORWARD, "loss")]
    same = all(row.verdict is not Verdict.DIFFER and row.absolute == 0.0 for row in forward)
    same &= any(row.kind == "forward" and row.verdict is Verdict.AGREE for row in forward)
    return [_judged_again(row, limits.get(UNDISTURBED + row.name), same) for row in rows]


def _judged_again(row: Row, limit: float | None, same: bool) -> Row:
    """The row of a gradient that jumps: by its second limit where both sides are at the `same` point, else undecided."""
    if limit is None or not (
        row.verdict is Verdict.INCONCLUSIVE or (row.scale == 0.0 and row.absolute > limit)
    ):
        return row
    if not same:
        return dataclasses.replace(row, verdict=Verdict.INCONCLUSIVE, reason=LARGE)
    verdict, reason = _judged(dataclasses.replace(row, limit=limit))
    if verdict is Verdict.INCONCLUSIVE:
        return row
    return dataclasses.replace(row, limit=limit, verdict=verdict, reason=reason)


def is_exact(name: str) -> bool:
    """Whether every bit of a stage must agree."""
    return name.partition("/")[0] in EXACT or name in ("step/count", "continued/count")


def compare(step: int, name: str, left: Array, right: Array, limit: float) -> Row:
    """Two arrays: shape, then dtype, then finiteness, then value."""
    whole = is_whole(left) and is_whole(right)  # counters: no rounding, of any width
    blank = Row(step, name, Verdict.DIFFER, limit=0.0 if whole else float(limit))
    if left.shape != right.shape:
        return dataclasses.replace(blank, reason=f"shape {left.shape} against {right.shape}")
    if left.dtype != right.dtype and not (whole or is_exact(name)):
        return dataclasses.replace(blank, reason=f"dtype {left.dtype} against {right.dtype}")
    if left.size == 0:
        return dataclasses.replace(blank, verdict=Verdict.SKIPPED, reason="it has no elements")
    a, b = left.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        return _lost(blank, a, b)
    with np.errstate(over="ignore"):
        distance = np.abs(a - b)
    row = _placed(blank, int(distance.argmax()), a, b, float(distance.max()))
    verdict, reason = _judged(row)
    return dataclasses.replace(row, verdict=verdict, reason=reason)


def _judged(row: Row) -> tuple[Verdict, str]:
    if np.isnan(row.limit):
        return Verdict.INCONCLUSIVE, "no limit is known"
    if row.absolute > row.limit:
        return Verdict.DIFFER, "beyond its limit"
    if row.scale and row.limit >= row.scale:
        return Verdict.INCONCLUSIVE, LARGE
    return Verdict.AGREE, ""


def _lost(blank: Row, a: Array, b: Array) -> Row:
    """Not finite: a difference where one side is, an error where both have diverged."""
    one_sided = np.isfinite(a) != np.isfinite(b)
    if one_sided.any():
        row = _placed(blank, int(one_sided.argmax()), a, b, float("inf"))
        return dataclasses.replace(row, reason="one side is not finite")
    row = _placed(blank, int((~np.isfinite(a)).argmax()), a, b, 0.0)
    return dataclasses.replace(row, verdict=Verdict.ERROR, reason="neither side is finite")


def _placed(blank: Row, position: int, a: Array, b: Array, absolute: float) -> Row:
    index = tuple(map(int, np.unravel_index(position, a.shape)))
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    return dataclasses.replace(
        blank, absolute=absolute, scale=scale, index=index, left=float(a[index]), right=float(b[index])
    )


def _with_blame(rows: Sequence[Row]) -> list[Row]:
    """Each row that differs, with the first stage among its inputs that differs, too."""
    judged: list[Row] = []
    for row in rows:
        follows = _cause(row, judged) if row.verdict is Verdict.DIFFER else ""
        judged.append(dataclasses.replace(row, follows=follows))
    return judged


def _cause(row: Row, before: Iterable[Row]) -> str:
    inputs = INPUTS.get(row.kind, ())
    return next((one.name for one in before if one.verdict is Verdict.DIFFER and one.kind in inputs), "")
