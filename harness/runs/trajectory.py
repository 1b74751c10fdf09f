"""Two whole runs compared: the loss of every step, and the final state."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Trace
from lockstep.harness.core.compare import LOSS
from lockstep.harness.core.ledger import Ledger, Row, compare
from lockstep.harness.core.verdict import Verdict

Trajectory = Mapping[str, Array]
"""The quantities of a run that are compared: ``loss`` (steps,), and ``parameters/``, ``buffers/``, ``average/<name>`` at its end."""


def trajectory(trace: Trace) -> dict[str, Array]:
    """The losses and the final state; the optimizer's own state is compared in lockstep."""
    last = trace.final
    kinds = {"parameters": last.parameters, "buffers": last.buffers, "average": last.average}
    ends = {f"{kind}/{name}": value for kind, arrays in kinds.items() for name, value in arrays.items()}
    return {LOSS: trace.losses, **ends}


def compare_trajectories(left: Trajectory, right: Trajectory, limits: Trajectory, prefix: str = "") -> Ledger:
    """One row a quantity; for the losses it is the first step that differs, for all others the last step."""
    last = len(left[LOSS]) - 1
    rows = []
    for name in dict.fromkeys((*left, *right)):
        if name not in left or name not in right:
            side = "the reference" if name not in left else "the other side"
            rows.append(Row(last, prefix + name, Verdict.DIFFER, f"missing from {side}"))
        elif name == LOSS and left[name].shape == right[name].shape:
            rows.append(
                _losses(prefix + name, left[name], right[name], _fitting(limits.get(name), left[name]))
            )
        else:
            limit = float(_fitting(limits.get(name), left[name]).max(initial=0.0))
            rows.append(compare(last, prefix + name, left[name], right[name], limit))
    return Ledger(tuple(rows))


def _fitting(limits: Array | None, value: Array) -> Array:
    """Limits of the value's shape; for a run of another length one limit for all elements, or none."""
    if limits is not None and limits.shape == value.shape:
        return limits
    return np.full(value.shape, np.nan if limits is None else limits.max(initial=0.0))


def _losses(name: str, left: Array, right: Array, limits: Array) -> Row:
    """The first step whose losses differ; if none does, the last one that can be judged."""
    finite = np.isfinite(left) & np.isfinite(right)
    with np.errstate(all="ignore"):
        differs = ~finite | (np.abs(left.astype(np.float64) - right) > limits)
    step = int(differs.argmax()) if differs.any() else len(left) - 1
    row = compare(step, name, left[step : step + 1], right[step : step + 1], float(limits[step]))
    row = dataclasses.replace(row, index=(step,), scale=max(row.scale, float(np.abs(left[0]))))
    if (
        row.verdict is Verdict.INCONCLUSIVE and row.limit < row.scale
    ):  # small, but compared with the first loss
        return dataclasses.replace(row, verdict=Verdict.AGREE, reason="")
    return row
