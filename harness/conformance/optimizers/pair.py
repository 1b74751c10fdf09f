"""Two optimizers and what they do on the gradient sequences, compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Array, Arrays
from lockstep.harness.conformance.optimizers.distance import Distance, Limits, distance, measured_limits
from lockstep.harness.conformance.optimizers.open_loop import RECORDED, OptimizerAlone
from lockstep.harness.conformance.optimizers.sequences import SHAPES, GradientSequence, Pattern, Shapes
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.explain import Confirmed
from lockstep.harness.runs.free_run import StepByStep, free_run


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        verdict: AGREE, DIFFER or INCONCLUSIVE; ERROR where what ours is compared with does not run.
        reason: where they differ and by how much, or why nothing can be decided.
    """

    verdict: Verdict
    reason: str = ""


class DidNotRun(Exception):  # noqa: N818 - a finding, on its way to the check that reports it
    """A side did not get through a sequence."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(verdict, reason)
        self.finding = Finding(verdict, reason)


class OnSequence:
    """Two optimizers on one gradient sequence; every run and limit is computed once, and each raises `DidNotRun` if a side does.

    Attributes:
        sides: ours and the other.
        sequence: what both are given.
    """

    def __init__(self, sides: tuple[OptimizerAlone, OptimizerAlone], sequence: GradientSequence) -> None:
        self.sides, self.sequence = sides, sequence
        self._limits: dict[str, Limits] = {}

    @cached_property
    def ours(self) -> Arrays:
        """Our parameters, (updates + 1, ...) each."""
        return self._run(self.sides[0], Verdict.DIFFER)

    @cached_property
    def theirs(self) -> Arrays:
        """The other one's."""
        return self._run(self.sides[1], Verdict.ERROR)

    @cached_property
    def distance(self) -> Distance:
        """How far the two are apart."""
        return distance(self.ours, self.theirs, self.sequence.dtype)

    def limits(self, precision: str = "") -> Limits:
        """How far apart the rounding of a precision, by default the sequence's, may bring the two."""
        if precision not in self._limits:
            eps = float(np.finfo(precision or self.sequence.dtype).eps)
            runs = list(zip(self.sides, (self.ours, self.theirs), strict=True))
            self._limits[precision] = measured_limits(runs, self.sequence, eps)
        return self._limits[precision]

    @property
    def moved(self) -> bool:
        """Whether one of the two moves a parameter to a finite number."""
        return any(one.any() for one in self.distance.moved.values())

    @property
    def still(self) -> bool:
        """Whether both leave every parameter where it was, to the bit."""
        return all((value == value[0]).all() for run in (self.ours, self.theirs) for value in run.values())

    def compare(self) -> Finding:
        """Whether the two agree; of sides that both do not run, the other one's error."""
        for name, value in self.theirs.items():
            if form_of(self.ours[name]) != form_of(value):
                return Finding(Verdict.DIFFER, f"{name}: {form_of(self.ours[name])} for {form_of(value)}")
        found = self.distance
        if found.same and not self.moved and self.sequence.moves:
            return Finding(Verdict.INCONCLUSIVE, "neither moves a parameter to a finite number")
        if found.within_floor:
            return Finding(Verdict.AGREE)
        if not found.within(self.limits()):
            return Finding(Verdict.DIFFER, self._first())
        if not found.informative(self.limits()):
            reason = "rounding alone may move these parameters as far as the updates do"
            return Finding(Verdict.INCONCLUSIVE, reason)
        return Finding(Verdict.AGREE)

    def _run(self, side: OptimizerAlone, verdict: Verdict) -> Arrays:
        run = free_run(side, self.sequence, RECORDED, lambda one: StepByStep(one).fit)
        if run.trace is None or run.trace.parameters is None:
            raise DidNotRun(verdict, f"{side.name} raises {run.reason}")
        return run.trace.parameters

    def _first(self) -> str:
        """The first update beyond its limit, and there the element that is furthest beyond."""
        update, name, place, count = self.distance.beyond(self.limits())
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        ours, theirs, size = (
            one[name][update][place] for one in (self.ours, self.theirs, self.distance.elements)
        )
        return (
            f"update {update}, {where}: {ours:.9g} for {theirs:.9g}, {size:.2g} apart where rounding does at most "
            f"{self.limits()[name][update]:.2g} ({count} of {len(self.ours)} parameters differ)"
        )


class Pair:
    """The optimizer that is checked, and the one that it should equal.

    Args:
        given: what the user calls ours, and the other.
        shapes: of the parameters that are updated.
        updates: of the long sequences.

    Attributes:
        sides: ours and the other.
        explanations: by dtype, of those that were looked for.
    """

    def __init__(self, given: tuple[object, object], shapes: Shapes = SHAPES, updates: int = 50) -> None:
        if updates < 1 or not shapes:
            raise AdoptionError(
                "there is nothing to update",
                f"updates={updates}, shapes={dict(shapes)}",
                'ask for one update or more of one parameter or more: shapes={"w": (4, 3)}',
            )
        self.given, self.shapes, self.updates = given, shapes, updates
        ours, other = (side_of(one) for one in given)
        name = f"the other {other.name}" if other.name == ours.name else other.name
        self.sides = (OptimizerAlone(ours.name, ours), OptimizerAlone(name, other))
        self.explanations: dict[str, Confirmed | None] = {}
        self._compared: dict[tuple[Pattern, str], OnSequence] = {}

    @property
    def name(self) -> str:
        """Who is checked against whom."""
        return " against ".join(side.name for side in self.sides)

    def on(self, pattern: Pattern, dtype: str) -> OnSequence:
        """The two on a sequence."""
        if (pattern, dtype) not in self._compared:
            sequence = pattern.sequence(self.shapes, self.updates, dtype)
            self._compared[pattern, dtype] = OnSequence(self.sides, sequence)
        return self._compared[pattern, dtype]


def form_of(run: Array) -> str:
    """The dtype and shape of a parameter, of its run."""
    return f"{run.dtype} {run.shape[1:]}"
