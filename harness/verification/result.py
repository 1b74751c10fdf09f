"""The result of a verification: its cases, their verdicts, and the census of what differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.backends.problem import Array
from lockstep.harness.core.compare import INPUTS, LOSS, Comparison, Run
from lockstep.harness.core.distance import ratio
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import Judge, scaled
from lockstep.harness.core.verdict import Verdict, combine
from lockstep.harness.diagnose.diagnosis import Diagnosis
from lockstep.harness.numerics.certified import Certified

MOST_NAMED = 3
"""Parameters that a first line names."""

BUFFER, OPTIMIZER, PARAMETER, NARROW = "buffer", "optimizer's state", "parameter", "float32 computation"
"""Kinds of what a verdict leaves out: what the other side lacks, a parameter that nobody can judge, and rounding to float32."""


@dataclass(frozen=True)
class LeftOut:
    """Arrays of one side that were compared with no other's, or could not be judged.

    Attributes:
        backend: whose.
        kind: ``buffer``, ``optimizer's state``, ``parameter``: one that could not be judged, or ``float32 computation``,
            whose rounding is left out.
        names: the side's own; of parameters the reference's, of a computation its line.
    """

    backend: str
    kind: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        """``2 buffers of torch``."""
        count = len(self.names)
        one, many = _ARRAYS[self.kind]
        return f"{count} {one if count == 1 else many} of {self.backend}"

    @property
    def sentence(self) -> str:
        """With the names, and of parameters the reason and the remedy."""
        if self.kind == PARAMETER:
            return (
                f"not judged: {', '.join(self.names)}: the gradient is 0 but for rounding on both sides, and the optimizer "
                "makes whole steps of rounding; float64, SGD or a larger epsilon would let it be judged"
            )
        return f"not compared: {self}: {', '.join(self.names)}"


_ARRAYS = {
    BUFFER: ("buffer", "buffers"),
    PARAMETER: ("parameter", "parameters"),
    OPTIMIZER: ("array of the optimizer's state", "arrays of the optimizer's state"),
    NARROW: ("float32 computation", "float32 computations"),
}
"""Kind -> one of them, several."""


@dataclass(frozen=True)
class Case:
    """One problem in one dtype, on all backends.

    Attributes:
        problem: the run: a problem, or a task of adopted code.
        runs: one per backend that was asked for.
        comparisons: every quantity of every pair of runs that trained.
        tolerance: the judge of the comparisons.
        certified: each backend's own error, where that was asked for.
        diagnoses: where backends first diverge from the first that trained, where that was asked for.
        notes: what a mapping that was found leaves in doubt.
        left_out: buffers and optimizers' states that have no counterpart on another side, and parameters that could not be judged.
        require_all: whether something left out makes the case INCONCLUSIVE.
    """

    problem: RunSpec
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    tolerance: Judge
    certified: Certified | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    require_all: bool = False

    @property
    def trained(self) -> list[Run]:
        """The runs that have a trace."""
        return [run for run in self.runs if run.trace is not None]

    @property
    def verdict(self) -> Verdict:
        """The most severe of its comparisons and runs; INCONCLUSIVE if nothing was compared.

        Where the comparisons of two whole runs decide nothing, a stage of a single step that diverges is a difference.
        """
        shortfall = [run.verdict for run in self.runs if run.trace is None]
        differing = [
            one.verdict
            for one in self.diagnoses
            if one.verdict is Verdict.DIFFER and self.of_pair(one.reference, one.backend) is not Verdict.AGREE
        ]
        missing = [Verdict.INCONCLUSIVE] if self.left_out and self.require_all else []
        return combine([*(one.verdict for one in self.comparisons), *shortfall, *differing, *missing])

    def of_pair(self, left: str, right: str) -> Verdict:
        """The most severe of the comparisons of two whole runs; INCONCLUSIVE if there is none."""
        return combine(one.verdict for one in self.comparisons if (one.left, one.right) == (left, right))

    @property
    def reason(self) -> str:
        """Why it does not agree, in one sentence, and what is in doubt of the mapping; empty where it does agree."""
        if self.verdict is Verdict.AGREE:
            return ""
        return "; ".join((self._cause(), *self.notes))

    def _cause(self) -> str:
        for one in self.comparisons:
            if one.verdict is self.verdict:
                return f"{one.quantity}, {one.left} against {one.right}: {one.reason}"
        for run in self.runs:
            if run.verdict is self.verdict:
                return f"{run.backend}: {run.reason}"
        for one_diagnosis in self.diagnoses:
            if one_diagnosis.verdict is self.verdict:
                return one_diagnosis.sentence
        if self.left_out and len(self.trained) > 1:
            return "all was to be compared, and some has no counterpart or could not be judged"
        return f"{len(self.trained)} backend trained; two are needed to compare"

    @property
    def limits(self) -> Array:
        """The largest distance of two losses that passes, over max(|loss|, |first loss|); (steps,), or none at all."""
        for run in self.trained:
            assert run.trace is not None
            losses = np.where(np.isfinite(run.trace.losses), run.trace.losses, 0.0)
            judged = self.tolerance.scale(losses, True)
            if judged.shape == (self.problem.steps,):
                return ratio(self.tolerance.limit(LOSS, judged), scaled(losses, True))
        return np.zeros(0)

    @property
    def distances(self) -> Array:
        """The largest distance between any two losses of each step, over max(|loss|, |first loss|); (steps,).

        NaN where fewer than two runs have a finite loss.
        """
        losses = [run.trace.losses for run in self.trained if run.trace is not None]
        steps = max((len(one) for one in losses), default=0)
        table = np.full((max(len(losses), 1), steps), np.nan)
        for row, one in zip(table, losses, strict=False):
            row[: len(one)] = np.where(np.isfinite(one), one, np.nan)
        usable = np.isfinite(table).sum(axis=0) >= 2
        spread = np.full(steps, np.nan)
        if usable.any():
            part = table[:, usable]
            scale = np.nanmax(
                np.abs(np.concatenate([part, np.broadcast_to(table[:, :1], part.shape)])), axis=0
            )
            spread[usable] = ratio(np.nanmax(part, axis=0) - np.nanmin(part, axis=0), scale)
        return spread


@dataclass(frozen=True)
class Result:
    """The result of one verification."""

    cases: tuple[Case, ...]

    @property
    def verdict(self) -> Verdict:
        """The most severe of all cases."""
        return combine(case.verdict for case in self.cases)

    @property
    def runs(self) -> list[Run]:
        """All runs of all cases."""
        return [run for case in self.cases for run in case.runs]

    @property
    def comparisons(self) -> list[Comparison]:
        """All comparisons of all cases."""
        return [one for case in self.cases for one in case.comparisons]

    @property
    def headline(self) -> str:
        """The verdict, and what it is not about: ``AGREE, 2 buffers of torch not compared``."""
        return ", ".join([self.verdict, *not_compared(one for case in self.cases for one in case.left_out)])

    def census(self) -> str:
        """Every case that does not agree, and in it every quantity that failed, one line each."""
        lines = [f"{self.headline}: {len(self.cases)} cases, {len(self.comparisons)} comparisons"]
        for case in self.cases:
            if case.verdict is not Verdict.AGREE:
                lines.append(f"{case.problem.name} {case.problem.dtype}: {case.verdict}: {case.reason}")
                lines += [f"  {one.sentence}" for one in case.diagnoses]
                lines += [f"  {_line(one)}" for one in case.comparisons if one.verdict is not Verdict.AGREE]
                lines += [f"  {run.backend}: {run.verdict}: {run.reason}" for run in case.runs if run.reason]
            elif case.notes:
                lines.append(f"{case.problem.name} {case.problem.dtype}: {'; '.join(case.notes)}")
            lines += [f"  {one.sentence}" for one in case.left_out]
        return "\n".join(lines)


def not_compared(left_out: Iterable[LeftOut]) -> list[str]:
    """``2 buffers of torch and 1 array of the optimizer's state of jax not compared``, ``1 parameter not judged: k.bias``, or nothing."""
    every = list(left_out)
    listed = " and ".join(str(one) for one in every if one.kind != PARAMETER)
    names = sorted({name for one in every if one.kind == PARAMETER for name in one.names})
    unjudged = f"{len(names)} {_ARRAYS[PARAMETER][len(names) > 1]} not judged: {_shortened(names)}"
    return [*([f"{listed} not compared"] if listed else []), *([unjudged] if names else [])]


def _shortened(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _line(one: Comparison) -> str:
    text = f"{one.left} / {one.right}  {one.quantity}: {one.verdict}: {one.reason}"
    if one.worst is None or one.quantity == INPUTS:
        return text
    index = ", ".join(map(str, one.worst.index))
    return (
        f"{text}; {one.failing} of {one.elements} failing; worst at {one.unit} {index}: {one.worst.left!r} against "
        f"{one.worst.right!r} (relative {one.worst.relative:.2g}, scaled {one.worst.scaled:.2g}, "
        f"{one.worst.ulps} ULP); passes with rtol {one.smallest_rtol:.2g}"
    )


class ParityError(AssertionError):
    """Not everything agrees. The message is the census; `result` has all of it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.census())
        self.result = result
