"""Code of float64 that computes in float32 in some places: they are judged without its rounding there.

Normalisation, softmax, schedules are written so by several libraries, and then two right ports differ by 1e-8. Where whole runs
differ and some side has such places, all are trained again with those places computed in float64, and that is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lockstep.backends.adoption import Narrow
from lockstep.harness.adopt.randomness import check_repeats
from lockstep.harness.adopt.side import Side, step_of
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.compare import Comparison
from lockstep.harness.core.distance import Place
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.verification.result import NARROW, Case, LeftOut


def narrow_places(sides: Sequence[Side], task: Task) -> tuple[LeftOut, ...]:
    """Where the sides compute in less than the task's float64, by side; nothing for a task of float32."""
    if task.dtype != "float64":
        return ()
    places = {side.name: _places(side, task) for side in sides}
    return tuple(
        LeftOut(name, NARROW, tuple(f"{one.place} ({one.dtype})" for one in found))
        for name, found in places.items()
        if found
    )


def _places(side: Side, task: Task) -> tuple[Narrow, ...]:
    if "widen" not in side.trainer.capabilities:
        return ()
    with step_of(side.trainer):
        return side.trainer.narrowed(side.masked(0, task.data[0]))


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
    first, worst = differing(before)[0]
    note = (
        f"judged with the float32 computations of {' and '.join(one.backend for one in places)} made in float64; as they "
        f"are, {first.quantity} differs by {worst.scaled:.2g} of its scale"
    )
    return dataclasses.replace(case, left_out=(*case.left_out, *places), notes=(*case.notes, note))


def not_widened(case: Case, places: Sequence[LeftOut], reason: str) -> Case:
    """The case as it is, which says where its rounding may come from."""
    computed = " and ".join(map(str, places)) or f"a {NARROW}"
    note = f"{computed} may explain it, but cannot be made in float64: {reason}"
    return dataclasses.replace(case, notes=(*case.notes, note))


def differing(case: Case) -> list[tuple[Comparison, Place]]:
    """The quantities in which whole runs that trained differ, and where the most."""
    return [
        (one, one.worst)
        for one in case.comparisons
        if one.verdict is Verdict.DIFFER and one.worst is not None
    ]
