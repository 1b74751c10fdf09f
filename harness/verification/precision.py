"""Code of float64 that computes in float32 in some places: what its rounding there may explain is told apart from the rest.

Normalisation, softmax, schedules are written so by several libraries, and then two right ports differ by 1e-8. Where whole runs
differ and some side has such places, all are trained again with those places computed in float64, and that is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lockstep.harness.adopt.randomness import check_repeats
from lockstep.harness.adopt.side import Side
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.verification.result import Case, LeftOut

NARROW = "float32 computation"


def narrow_places(sides: Sequence[Side], task: Task) -> tuple[LeftOut, ...]:
    """Where the sides compute in less than the task's float64, by side; nothing for a task of float32."""
    if task.dtype != "float64":
        return ()
    places = {
        side.name: side.trainer.narrowed(side.masked(0, task.data[0]))
        for side in sides
        if "widen" in side.trainer.capabilities
    }
    return tuple(
        LeftOut(name, NARROW, tuple(f"{one.place} ({one.dtype})" for one in found))
        for name, found in places.items()
        if found
    )


def widened(sides: Sequence[Side], places: Sequence[LeftOut], task: Task) -> list[Side]:
    """The sides, with all that is computed in less computed in float64."""
    narrow = {one.backend for one in places}
    return [
        check_repeats(dataclasses.replace(side, trainer=side.trainer.widened(), form={}), task)
        if side.name in narrow
        else side
        for side in sides
    ]


def without_rounding(case: Case, before: Case, places: Sequence[LeftOut]) -> Case:
    """The case of widened sides, which says what it is not about, and how far the sides are apart as they are."""
    differing = [one for one in before.comparisons if one.verdict is Verdict.DIFFER and one.worst is not None]
    first = differing[0]
    assert first.worst is not None
    note = (
        f"judged with the float32 computations of {' and '.join(one.backend for one in places)} made in float64; as they "
        f"are, {first.quantity} differs by {first.worst.scaled:.2g} of its scale"
    )
    return dataclasses.replace(case, left_out=(*case.left_out, *places), notes=(*case.notes, note))


def not_widened(case: Case, places: Sequence[LeftOut], reason: str) -> Case:
    """The case as it is, which says where its rounding may come from."""
    note = f"{' and '.join(map(str, places))} may explain it, but cannot be made in float64: {reason}"
    return dataclasses.replace(case, notes=(*case.notes, note))


def is_apart(case: Case) -> bool:
    """Whether whole runs that trained differ."""
    return any(one.verdict is Verdict.DIFFER and one.worst is not None for one in case.comparisons)
