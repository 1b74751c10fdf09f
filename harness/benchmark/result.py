"""The result of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.harness.benchmark.cost import Need
from lockstep.harness.benchmark.effort import Effort
from lockstep.harness.benchmark.interval import Summary, summarise
from lockstep.harness.benchmark.limits import Limits
from lockstep.harness.benchmark.machine import Pinned
from lockstep.harness.benchmark.proof import Proof
from lockstep.harness.benchmark.sample import Sample
from lockstep.harness.benchmark.sizes import Sized
from lockstep.harness.core.verdict import Verdict


@dataclass(frozen=True)
class Timed:
    """One backend on one problem at one size.

    Attributes:
        sized: the problem.
        backend: its registered name.
        need: the least that the problem needs.
        proof: whether its time may be shown.
        samples: its repetitions; none where its time may not be shown, or it failed.
        failure: why it could not be timed; empty where it could.
    """

    sized: Sized
    backend: str
    need: Need
    proof: Proof
    samples: tuple[Sample, ...] = ()
    failure: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict of the parity with the reference; a process that failed is an ERROR."""
        return Verdict.ERROR if self.failure else self.proof.verdict

    @property
    def reason(self) -> str:
        """Why there is no time; empty where there is one."""
        return self.failure or self.proof.reason

    @property
    def summary(self) -> Summary | None:
        """The summary of a whole run's seconds; None where no time may be shown."""
        if self.verdict is not Verdict.AGREE or not self.samples:
            return None
        return summarise([one.seconds for one in self.samples])


@dataclass(frozen=True)
class Benchmark:
    """The result of one benchmark.

    Attributes:
        timed: every backend on every problem at every size.
        pinned: threads and processors.
        limits: the best rates of the machine.
        effort: how long to measure.
        interrupted: whether the user ended it.
        load: running processes on the machine when it began, averaged over a minute; None where that is not known.
    """

    timed: tuple[Timed, ...]
    pinned: Pinned
    limits: Limits
    effort: Effort
    interrupted: bool = False
    load: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether every requested backend agrees on every problem, and could be timed."""
        return all(one.verdict is Verdict.AGREE for one in self.timed)

    @property
    def noisy(self) -> list[Timed]:
        """The runs whose interval is wider than requested."""
        width = self.effort.width
        return (
            []
            if width is None
            else [one for one in self.timed if one.summary and not one.summary.within(width)]
        )
