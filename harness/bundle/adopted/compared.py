"""A recorded run of a user's own code and the run that repeats it, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Trace
from lockstep.harness.adopt.task import Task
from lockstep.harness.adopt.training import held
from lockstep.harness.adopt.verification import MOST_TOLD
from lockstep.harness.bundle.replay_stages import summaries
from lockstep.harness.core.compare import (
    INPUTS,
    LOSS,
    Comparison,
    Run,
    compare_arrays,
    compare_named,
    without_vacuous,
)
from lockstep.harness.core.ledger import Ledger
from lockstep.harness.core.tolerance import Judge
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.divergence import divergence
from lockstep.harness.runs.recorder import BATCHES
from lockstep.harness.verification.parity import Case


@dataclass(frozen=True)
class Compared:
    """Both runs under the recorded names, and what of the comparison does not depend on the tolerance.

    Attributes:
        task: what was trained.
        left, right: the recorded run and that here; both trained.
        parted: the first step whose batch is another one; None where all are the same.
        after: after how many steps -> the recorded parameters, and those here.
        ledger: the recorded stages.
    """

    task: Task
    left: Run
    right: Run
    parted: int | None
    after: Mapping[int, tuple[Arrays, Arrays]]
    ledger: Ledger

    def case(self, judged: Callable[[int], Judge]) -> Case:
        """Everything, the arrays after so many steps by their judge."""
        names = self.left.backend, self.right.backend
        whole = [self._inputs(), *self._whole(judged(self.task.steps))]
        after = {steps: [*self._after(steps, judged(steps))] for steps in self.after}
        rows = [*whole, *(one for some in after.values() for one in some)]
        rows += summaries(self.ledger, self.task, names)
        found = divergence(self.task, (self.left, self.right), whole, after, self.ledger)
        return Case(
            self.task,
            (_told(self.left), _told(self.right)),
            tuple(rows),
            judged(self.task.steps),
            diagnoses=(found,) if found else (),
        )

    def _blank(self, quantity: str) -> Comparison:
        return Comparison(
            self.task.name,
            self.task.dtype,
            self.left.backend,
            self.right.backend,
            quantity,
            Verdict.AGREE,
        )

    def _inputs(self) -> Comparison:
        """Whether both started from the same and saw the same, to the bit; a buffer of one side alone is left out."""
        names = self.left.given.keys() & self.right.given.keys() - {BATCHES}
        faults = [
            f"{name}: other values than were recorded"
            for name in sorted(names)
            if self.left.given[name] != self.right.given[name]
        ]
        if self.parted is not None:
            faults.append(f"{BATCHES}: others than were recorded, first at step {self.parted}")
        reduced = [run.backend for run in (self.left, self.right) if run.environment.get("reduced_precision")]
        if len(reduced) == 1:
            faults.append(f"{reduced[0]} rounds matrix products to less than {self.task.dtype}")
        return dataclasses.replace(
            self._blank(INPUTS),
            unit="step",
            verdict=Verdict.DIFFER if faults else Verdict.AGREE,
            reason="; ".join(faults),
            elements=len(names) + 1,
            failing=len(faults),
            first_failing=None if self.parted is None or len(faults) > 1 else (self.parted,),
        )

    def _whole(self, judge: Judge) -> Iterator[Comparison]:
        """The losses, and what both ended with."""
        ours, theirs = _trace(self.left), _trace(self.right)
        blank = dataclasses.replace(self._blank(LOSS), unit="step", tolerance=judge)
        loss = compare_arrays(blank, ours.losses, theirs.losses, (self.task.steps,), self.task.dtype)
        yield from without_vacuous([loss], {LOSS: ours.losses})
        yield from self._named(judge, held(ours.final), held(theirs.final))

    def _after(self, steps: int, judge: Judge) -> Iterator[Comparison]:
        # Renamed only now: a measured tolerance knows a parameter by its own name.
        for one in self._named(judge, *self.after[steps]):
            yield dataclasses.replace(one, quantity=f"{one.quantity} after {steps} steps")

    def _named(self, judge: Judge, ours: Arrays, theirs: Arrays) -> list[Comparison]:
        """Of what is on both sides: parameters are, a buffer need not be."""
        shared = {name: value for name, value in ours.items() if name in theirs}
        here = {name: theirs[name] for name in shared}
        blank = dataclasses.replace(self._blank(""), tolerance=judge)
        return compare_named(blank, {name: one.shape for name, one in shared.items()}, shared, here)


def _trace(run: Run) -> Trace:
    assert run.trace is not None
    return run.trace


def _told(run: Run) -> Run:
    """A run as it is reported: with its parameters, unless they are many."""
    trace = _trace(run)
    many = sum(value.size for value in trace.final.parameters.values()) > MOST_TOLD
    final = dataclasses.replace(trace.final, parameters={} if many else trace.final.parameters)
    return dataclasses.replace(run, trace=dataclasses.replace(trace, final=final))
