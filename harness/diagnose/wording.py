"""Rows and findings in words, for the one sentence of a diagnosis."""

from __future__ import annotations

from lockstep.harness.core.ledger import Row
from lockstep.harness.diagnose.attribution import Culprit


def values_of(row: Row, names: tuple[str, str]) -> str:
    """Both sides' values and their distance, or the reason why there are none."""
    if row.left is None or row.right is None:
        return row.reason
    both = f"{names[0]} {row.left!r}, {names[1]} {row.right!r}"
    if not row.scale:
        return both
    return f"{both}, a distance of {row.distance:.2g} of the largest magnitude (at most {row.limit / row.scale:.2g} passes)"


_WORDS = {
    "given": "the given",
    "initial": "the initial",
    "state": "the state that was written:",
    "batch": "the batch's",
    "forward": "the output of",
    "loss": "the loss",
    "cotangent": "the cotangent of",
    "gradient": "the gradient of",
    "buffers": "the buffer",
    "clipped": "the clipped gradient of",
    "accumulator": "the accumulated gradient of",
    "optimizer": "the optimizer's",
    "update": "the update of",
    "parameters": "the parameter",
    "average": "the average of",
    "count": "the count of steps",
    "step": "the undivided step's",
    "fit": "the whole run's",
    "free": "the whole run's",
    "continued": "the continued run's",
}


def place_of(row: Row) -> str:
    """The stage in words: ``the gradient of 0.linear/w at [0, 1]``."""
    words = _WORDS.get(row.kind, row.kind)
    what = f"{words} {row.part}" if row.part else words.rstrip(":")
    at = f" at {list(row.index)}" if row.index and row.part != "loss" else ""
    return f"{what}{at}"


def blame(culprit: Culprit) -> str:
    """Which side is wrong and why, or why that is not known."""
    return f"{culprit.name} is wrong, as {culprit.reason}" if culprit.name else culprit.reason


def left_over(rest: float) -> str:
    """That an explanation leaves a share of the distance, which has another cause; nothing where it leaves none."""
    return f", which leaves {rest:.2g} of the distance to another cause" if rest else ""
