"""What comparing the initial parameters of two sides found, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lockstep.harness.conformance.initialisers.compare import InitialiserOutcome
from lockstep.harness.core.nonconformity import Nonconformity
from lockstep.harness.core.verdict import Verdict, combine


@dataclass(frozen=True)
class InitialiserReport:
    """Everything that was found about how two sides initialise.

    Attributes:
        left, right: what the sides are called.
        seeds: how many each side was built from.
        outcomes: parameter by parameter; one without a counterpart has no name on the other side.
        shared: (side, parameter) of those that two builds of one side hold in the same memory.
        left_out: buffers without a counterpart, as ``left:name``: they are not compared.
        false_alarm: the probability that two sides which initialise alike are said to differ, at most.
    """

    left: str
    right: str
    seeds: int
    outcomes: tuple[InitialiserOutcome, ...]
    shared: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    false_alarm: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The most severe of all parameters; DIFFER where builds share memory."""
        return combine([*(one.verdict for one in self.outcomes), *(Verdict.DIFFER for _ in self.shared)])

    @property
    def failed(self) -> tuple[str, ...]:
        """The left names of the parameters that start otherwise."""
        return tuple(one.left for one in self.outcomes if one.verdict is Verdict.DIFFER)

    @property
    def sentence(self) -> str:
        """The verdict and what it rests on."""
        head = f"{self.right} against {self.left}: {self.verdict}"
        if self.shared:
            side, name = self.shared[0]
            return f"{head}: two builds of {side} share the memory of {name}"
        if self.failed:
            first = next(one for one in self.outcomes if one.verdict is Verdict.DIFFER)
            count = f"{len(self.failed)} of {len(self.outcomes)} parameters start otherwise"
            return f"{head}: {count}; {first.left or first.right}: {first.reason}"
        undecided = [one for one in self.outcomes if one.verdict is not Verdict.AGREE]
        if undecided:
            count = f"{len(undecided)} of {len(self.outcomes)} parameters are undecided"
            return f"{head}: {count}; {undecided[0].left or undecided[0].right}: {undecided[0].reason}"
        return f"{head}: {len(self.outcomes)} parameters, {self.seeds} seeds a side{self._power}{self._not_compared}"

    def census(self) -> str:
        """The sentence, every parameter with what it starts from or what differs, and the probabilities of error."""
        lines = [self.sentence]
        lines += [f"{side}: two builds share the memory of {name}: {SHARED}" for side, name in self.shared]
        lines += [_line(one) for one in self.outcomes]
        lines += [f"{name}: a buffer without a counterpart, not compared" for name in self.left_out]
        lines.append(
            f"probability that sides which initialise alike are said to differ: at most {self.false_alarm:g}"
        )
        return "\n".join(lines)

    def raise_unless_agree(self) -> None:
        """Fail a test unless the verdict is AGREE.

        Raises:
            Nonconformity: an AssertionError, with the census.
        """
        if self.verdict is not Verdict.AGREE:
            raise Nonconformity(
                f"{self.right} does not initialise as {self.left} does, or nothing shows that it does",
                self.census(),
                "give both the same initialiser, scale and dtype for each parameter that is named; of what is undecided, more seeds",
            )

    @property
    def _power(self) -> str:
        """The scales that would have been found, at the weakest parameter."""
        widest = max((one for one in self.outcomes), key=lambda one: one.caught, default=None)
        if widest is None or not math.isfinite(widest.caught) or widest.caught == 1:
            return ""
        return f"; scales further apart than {_factor(widest.caught)} would have been found, of {widest.left} as the weakest"

    @property
    def _not_compared(self) -> str:
        return f"; {len(self.left_out)} buffers not compared" if self.left_out else ""


SHARED = "training one would change the other; make each build's arrays anew"


def _line(one: InitialiserOutcome) -> str:
    name = one.left or one.right
    if one.verdict is not Verdict.AGREE:
        return f"{name}: {one.verdict}: {one.reason}"
    if one.caught == 1:
        return f"{name}: {one.verdict}: {one.draws}, compared exactly"
    return f"{name}: {one.verdict}: {one.draws}; scales further apart than {_factor(one.caught)} would have been found"


def _factor(factor: float) -> str:
    """How far apart two scales are: ``1.2 %``, or ``a factor of 2.1``."""
    return f"{100 * (factor - 1):.2g} %" if factor < 1.5 else f"a factor of {factor:.2g}"
