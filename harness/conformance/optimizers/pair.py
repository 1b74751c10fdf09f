"""Two optimizers and what they do on the courses, compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lockstep.backends.adoption import AdoptionError, OptimizerSide
from lockstep.backends.problem import Array
from lockstep.harness.conformance.optimizers.limits import Apart, apart, measured
from lockstep.harness.conformance.optimizers.running import Alteration, Path, path
from lockstep.harness.conformance.optimizers.sequences import SHAPES, Course, Make, Shapes
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.explain import Confirmed
from lockstep.harness.runs.free_run import RAISED, describe


@dataclass(frozen=True)
class Found:
    """What a course showed.

    Attributes:
        verdict: AGREE, DIFFER or INCONCLUSIVE; ERROR where what ours is held to does not run.
        told: where they part and by how much, or why nothing can be told.
    """

    verdict: Verdict
    told: str = ""


class Raised(Exception):  # noqa: N818 - a finding, on its way to the check that reports it
    """A side did not get through a course."""

    def __init__(self, verdict: Verdict, told: str) -> None:
        super().__init__(verdict, told)
        self.found = Found(verdict, told)


@dataclass(frozen=True)
class Pair:
    """The optimizer that is checked, and the one that it should equal.

    Attributes:
        given: what the user calls ours, and the other.
        shapes: of the parameters that are updated.
        updates: of the long courses.
        sides: ours and the other, as the backends know them.
        explanations: by dtype, of those that were looked for.
    """

    given: tuple[object, object]
    shapes: Shapes = field(default_factory=lambda: SHAPES)
    updates: int = 50
    sides: tuple[OptimizerSide, OptimizerSide] = field(init=False)
    explanations: dict[str, Confirmed | None] = field(default_factory=dict, init=False, repr=False)
    _paths: dict[object, Path] = field(default_factory=dict, init=False, repr=False)
    _limits: dict[object, dict[str, Array]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.updates < 1 or not self.shapes:
            raise AdoptionError(
                "there is nothing to update",
                f"updates={self.updates}, shapes={dict(self.shapes)}",
                'ask for one update or more of one parameter or more: shapes={"w": (4, 3)}',
            )
        object.__setattr__(self, "sides", tuple(side_of(one) for one in self.given))

    @property
    def names(self) -> tuple[str, str]:
        """What reports call the two."""
        ours, against = (side.name for side in self.sides)
        return ours, f"the other {against}" if against == ours else against

    @property
    def name(self) -> str:
        """Who is checked against whom."""
        return " against ".join(self.names)

    def course(self, make: Make, dtype: str) -> Course:
        """A course of these parameters."""
        return make(self.shapes, self.updates).astype(dtype)

    def path(self, index: int, make: Make, dtype: str) -> Path:
        """What a side does on a course.

        Raises:
            Raised: what the side raised.
        """
        key = (index, make, dtype)
        if key not in self._paths:
            try:
                self._paths[key] = path(self.sides[index], self.course(make, dtype))
            except RAISED as error:  # whatever an optimizer raises
                verdict = Verdict.ERROR if index else Verdict.DIFFER
                raise Raised(verdict, f"{self.names[index]} raises {describe(error)}") from error
        return self._paths[key]

    def limits(self, make: Make, dtype: str) -> dict[str, Array]:
        """How far apart rounding may bring the two on a course."""
        key = (make, dtype)
        if key not in self._limits:
            eps = float(np.finfo(dtype).eps)
            self._limits[key] = measured(self.sides, self.course(make, dtype), eps)
        return self._limits[key]

    def compare(self, make: Make, dtype: str) -> Found:
        """Both sides on one course.

        Raises:
            Raised: what a side raised; of both, the other one's.
        """
        theirs, ours = (self.path(index, make, dtype) for index in (1, 0))
        for name, value in theirs.items():
            if (ours[name].dtype, ours[name].shape) != (value.dtype, value.shape):
                told = (
                    f"{name}: {ours[name].dtype} {ours[name].shape[1:]} for {value.dtype} {value.shape[1:]}"
                )
                return Found(Verdict.DIFFER, told)
        return self._judged(apart(ours, theirs, dtype), make, dtype)

    def _judged(self, found: Apart, make: Make, dtype: str) -> Found:
        moved = any(one.any() for one in found.moved.values())
        if found.same and not moved and self.course(make, dtype).moves:
            return Found(Verdict.INCONCLUSIVE, "neither moves a parameter to a finite number")
        if found.spared:
            return Found(Verdict.AGREE)
        limits = self.limits(make, dtype)
        if not found.within(limits):
            return Found(Verdict.DIFFER, self._first(found, limits, make, dtype))
        if not found.sees(limits):
            return Found(
                Verdict.INCONCLUSIVE, "rounding alone may move these parameters as far as the updates do"
            )
        return Found(Verdict.AGREE)

    def _first(self, found: Apart, limits: Mapping[str, Array], make: Make, dtype: str) -> str:
        """The first update beyond its limit, and there the element that is furthest beyond."""
        over = {name: one / _at_least(limits[name], one) for name, one in found.distance.items()}
        firsts = {name: _first_above(one) for name, one in over.items()}
        update = min(firsts.values())
        name = max(over, key=lambda one: float(over[one][update].max(initial=0.0)))
        place = np.unravel_index(int(np.argmax(over[name][update])), over[name][update].shape)
        where = f"{name}[{', '.join(map(str, place))}]" if place else name
        ours, theirs = (self.path(index, make, dtype)[name][update][place] for index in (0, 1))
        size, limit = found.distance[name][update][place], limits[name][update]
        count = sum(int((one > 1).any()) for one in over.values())
        return (
            f"update {update}, {where}: {ours:.9g} for {theirs:.9g}, {size:.2g} apart where rounding does at most {limit:.2g}"
            f" ({count} of {len(over)} parameters differ)"
        )

    def explained(
        self, index: int, side: OptimizerSide, one: Alteration, dtype: str, makes: Iterable[Make]
    ) -> bool:
        """Whether `side`, altered, does on all these courses what the side `index` does."""
        for make in makes:
            altered = path(side, self.course(make, dtype), one)
            seen = apart(altered, self.path(index, make, dtype), dtype)
            if not seen.spared and not seen.within(self.limits(make, dtype)):
                return False
        return True


def _at_least(limits: Array, like: Array) -> Array:
    """Limits, (updates + 1,), beside distances; a limit of nothing lets nothing pass."""
    positive: Array = np.maximum(limits, np.finfo(np.float64).tiny).reshape(-1, *[1] * (like.ndim - 1))
    return positive


def _first_above(over: Array) -> int:
    beyond = (over > 1).reshape(len(over), -1).any(axis=1)
    return int(beyond.argmax()) if beyond.any() else len(over)
