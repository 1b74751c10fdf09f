"""What ported training code is known to get wrong: a table of explanations, each a way to alter the reference.

A row names the mistake and makes its variants for a problem; one that does not apply to the problem has none. The most
specific come first: what an earlier row explains is not offered by a later one. `lockstep.harness.diagnose.explain` tries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Arrays, Problem
from lockstep.harness.diagnose.explanations import gradients, optimizer, run
from lockstep.harness.runs.variant import Variant


@dataclass(frozen=True)
class Explanation:
    """One known mistake.

    Attributes:
        name: a short name, the same in every report.
        variants: (problem, the suspect's initial parameters) -> how the reference is altered, in each way it can be made.
    """

    name: str
    variants: Callable[[Problem, Arrays], Iterator[Variant]]


def variants_of(explanation: Explanation, problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The variants of an explanation, up to one whose problem would not be valid."""
    with suppress(ProblemError):
        yield from explanation.variants(problem, initial)


EXPLANATIONS = (
    Explanation("mean and sum", run.reduction),
    Explanation("half squares", run.half_squares),
    Explanation("last batch", run.last_batch),
    Explanation("batch order", run.order),
    Explanation("length of the run", run.short_run),
    Explanation("rearranged parameter", run.rearranged),
    Explanation("transposed gradient", gradients.transposed_gradient),
    Explanation("sign", gradients.sign),
    Explanation("accumulation", gradients.accumulated),
    Explanation("weight decay", optimizer.weight_decay),
    Explanation("Nesterov and plain momentum", optimizer.nesterov),
    Explanation("no momentum", optimizer.momentum),
    Explanation("dampening", optimizer.dampening),
    Explanation("place of epsilon", optimizer.epsilon_place),
    Explanation("size of epsilon", optimizer.epsilon_size),
    Explanation("bias correction", optimizer.bias_correction),
    Explanation("schedule", run.schedule),
    Explanation("update count", run.counter),
    Explanation("penalty", run.penalties),
    Explanation("clip", run.clip),
    Explanation("switch of the optimizer", optimizer.other_switch),
    Explanation("conventions of another framework", optimizer.preset),
    Explanation("constant ratio", gradients.ratio),
    Explanation("stale gradient", gradients.stale),
    Explanation("parameter never updated", gradients.untouched),
    Explanation("single precision", gradients.single),
)
"""All that are known, the most specific first."""
