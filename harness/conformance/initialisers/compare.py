"""One parameter: what each side starts it from, and whether that is the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lockstep.harness.conformance.initialisers.drawn import constant, describe
from lockstep.harness.conformance.initialisers.sample import Sample
from lockstep.harness.conformance.initialisers.scale import Counts
from lockstep.harness.conformance.initialisers.structure import PRECISIONS
from lockstep.harness.conformance.initialisers.two_sample import TwoSample
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.link import Link

ROUNDING = 8.0
"""Constants that two libraries compute, as tables of sines, are apart by so many eps of the largest at most."""

COARSEST = 10.0
"""Where not even scales so many times apart would have been found, nothing is decided."""


@dataclass(frozen=True)
class InitialiserOutcome:
    """One parameter on both sides.

    Attributes:
        left, right: its names.
        verdict: DIFFER where both start it otherwise; INCONCLUSIVE where no sensible difference would have been found.
        reason: what differs, or why nothing is decided.
        draws: what the left side seems to draw, or the constant.
        caught: the factor between two scales above which they would have been found to differ; 1 of constants, which are
            compared exactly; infinite where nothing was compared.
        p: an upper bound of the probability that one distribution gives numbers as different as these; 1 of constants.
    """

    left: str
    right: str
    verdict: Verdict
    reason: str = ""
    draws: str = ""
    caught: float = field(default=1.0)
    p: float = field(default=1.0)


class Compared:
    """One parameter of both sides.

    Args:
        names: of the two sides.
        link: its name on either side.
        samples: what the builds of either drew.
        counts: numbers on which its scale may depend.
        level: a test below this probability says that two distributions differ.
    """

    def __init__(
        self,
        names: tuple[str, str],
        link: Link,
        samples: tuple[Sample, Sample],
        counts: Counts,
        level: float,
    ) -> None:
        self._names, self._parameter, self._counts = names, (link.left, link.right), counts
        self._left, self._right = samples
        self._samples, self._level = samples, level

    def outcome(self) -> InitialiserOutcome:
        """What was found: the first kind of difference, of those that explain all that follow."""
        for find in (
            self._not_finite,
            self._other_dtype,
            self._only_one_draws,
            self._other_constants,
            self._other_structure,
            self._rounded,
        ):
            if reason := find():
                return self._differ(reason)
        return self._distribution()

    def _not_finite(self) -> str:
        wrong = [name for name, one in self._sides if not one.finite]
        return f"{' and '.join(wrong)} start from numbers that are not finite" if wrong else ""

    def _other_dtype(self) -> str:
        ours, theirs = self._left.first.dtype, self._right.first.dtype
        return f"{self._names[1]} has {theirs} where {self._names[0]} has {ours}" if ours != theirs else ""

    def _only_one_draws(self) -> str:
        """Whether seeds change a number on one side alone."""
        differing = self._left.fixed != self._right.fixed
        # A draw from few numbers, as signs or mostly zeros, may repeat by chance: there the tests decide.
        if not differing.any() or self._is_discrete:
            return ""
        if self._left.is_fixed or self._right.is_fixed:
            ours, theirs = (self._words(one) for one in self._samples)
            return f"{self._names[1]} {theirs} where {self._names[0]} {ours}{self._same_for_all_seeds()}"
        fixed = next(at for at, one in enumerate(self._samples) if (one.fixed & differing).any())
        place = tuple(int(one) for one in np.argwhere(self._samples[fixed].fixed & differing)[0])
        value = self._samples[fixed].first[place]
        return (
            f"{self._names[fixed]} starts {int(differing.sum())} of {differing.size} numbers from the same for every seed, "
            f"the first {list(place)} from {value:.4g}, where {self._names[1 - fixed]} draws them"
        )

    def _same_for_all_seeds(self) -> str:
        """A hint at numbers that look drawn, and that no seed changes."""
        fixed = next(one for one in self._samples if one.is_fixed)
        if len(np.unique(fixed.first)) <= 3 or fixed.first.size < 8:
            return ""
        looks = describe(fixed.first.astype(np.float64), self._counts)
        return f": they look like {looks}, from a seed that is ignored, or were trained or loaded already"

    def _other_constants(self) -> str:
        both = self._left.fixed & self._right.fixed
        if not both.any():
            return ""
        ours, theirs = (one.first[both].astype(np.float64) for one in self._samples)
        allowed = ROUNDING * self._eps * float(np.abs(ours).max())
        off = np.abs(ours - theirs)
        if not (off > allowed).any():
            return ""
        place = np.argwhere(both)[int(off.argmax())].tolist()
        count = f"{int((off > allowed).sum())} of {off.size} numbers that no seed changes differ"
        if len(np.unique(ours)) <= 3 and len(np.unique(theirs)) <= 3:
            one, other = (constant(value) for value in (ours, theirs))
            return f"{self._names[1]} starts from {other} where {self._names[0]} starts from {one}"
        return f"{count}, most at {place}: {theirs[off.argmax()]:.9g} for {ours[off.argmax()]:.9g}"

    def _other_structure(self) -> str:
        """Repeated slices, and orthogonal rows or columns."""
        if self._left.copied != self._right.copied and self._both_draw:
            at = 0 if len(self._left.copied) > len(self._right.copied) else 1
            axis = min(self._samples[at].copied - self._samples[1 - at].copied)
            return f"{self._names[at]} repeats one slice along axis {axis}, where {self._names[1 - at]} draws each"
        ours, theirs = self._left.gain, self._right.gain
        if (ours is None) != (theirs is None):
            at = 0 if theirs is None else 1
            words = self._words(self._samples[1 - at])
            verb = f"draws an orthogonal matrix of gain {self._samples[at].gain:.3g}"
            if at:
                return f"{self._names[1]} {verb} where {self._names[0]} {words}"
            return f"{self._names[1]} {words}, not orthogonal, where {self._names[0]} {verb}"
        if ours is not None and theirs is not None and abs(theirs / ours - 1) > 0.01:
            return f"{self._names[1]} draws an orthogonal matrix of gain {theirs:.3g} where {self._names[0]} has gain {ours:.3g}"
        return ""

    def _rounded(self) -> str:
        """Whether the right side draws coarser numbers; of the left one, as after `module.double()`, it is no fault of the port."""
        if self._right.bits >= self._left.bits or not self._both_draw:
            return ""
        rounded = PRECISIONS[self._right.bits]
        return f"{self._names[1]} draws numbers that are rounded to {rounded}, and {self._names[0]} does not"

    def _distribution(self) -> InitialiserOutcome:
        if self._left.is_fixed and self._right.is_fixed:
            return InitialiserOutcome(*self._parameter, Verdict.AGREE, draws=constant(self._left.first))
        fixed = self._left.fixed & self._right.fixed
        tests = TwoSample(self._left.drawn(fixed), self._right.drawn(fixed), self._level)
        if tests.differ:
            return self._differ(self._other_distribution(tests), tests.p)
        words = self._words(self._left).removeprefix("draws ")
        if self._left.bits < self._right.bits:
            words += f", rounded to {PRECISIONS[self._left.bits]}"
        if tests.caught <= COARSEST:
            return InitialiserOutcome(
                *self._parameter, Verdict.AGREE, draws=words, caught=tests.caught, p=tests.p
            )
        reason = (
            f"{tests.draws:.0f} independent numbers of each side are too few: "
            f"not even a scale {COARSEST:g} times as large would have been found"
        )
        return InitialiserOutcome(
            *self._parameter, Verdict.INCONCLUSIVE, reason, words, tests.caught, tests.p
        )

    def _other_distribution(self, tests: TwoSample) -> str:
        ours, theirs = self._words(self._left), self._words(self._right)
        deviations = tests.right.std(), tests.left.std()
        figures = (
            f"standard deviation {deviations[0]:.3g} for {deviations[1]:.3g}, "
            f"{tests.right.min():.3g} to {tests.right.max():.3g} for {tests.left.min():.3g} to {tests.left.max():.3g}"
        )
        return f"{self._names[1]} {theirs} where {self._names[0]} {ours} ({figures}; p below {max(tests.p, 1e-12):.1e})"

    def _differ(self, reason: str, p: float = 0.0) -> InitialiserOutcome:
        draws = self._words(self._left).removeprefix("draws ").removeprefix("starts from ")
        return InitialiserOutcome(*self._parameter, Verdict.DIFFER, reason, draws, p=p)

    def _words(self, sample: Sample) -> str:
        """What a side does: ``draws U(±1)``, ``starts from 0``."""
        if sample.is_fixed:
            return f"starts from {constant(sample.first)}"
        if not sample.finite:
            return "draws numbers that are not finite"
        if sample.gain is not None:
            return f"draws an orthogonal matrix of gain {sample.gain:.3g}"
        with np.errstate(all="ignore"):
            return f"draws {describe(sample.drawn(sample.fixed), self._counts)}"

    @property
    def _sides(self) -> zip[tuple[str, Sample]]:
        return zip(self._names, self._samples, strict=True)

    @property
    def _both_draw(self) -> bool:
        return not (self._left.is_fixed or self._right.is_fixed)

    @property
    def _is_discrete(self) -> bool:
        """Whether a side draws from few numbers: signs, or mostly zeros."""
        drawn = [one.drawn(one.fixed) for one in self._samples if not one.is_fixed]
        return any(len(np.unique(one)) < one.size / 2 for one in drawn)

    @property
    def _eps(self) -> float:
        kind = self._left.first.dtype
        return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0
