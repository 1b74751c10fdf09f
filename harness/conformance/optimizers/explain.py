"""What one side does otherwise: explanations of `lockstep.harness.explanations`, each confirmed on every gradient sequence.

They are proposed from the formula of the catalogue that a side is, or states by its class and arguments and is found to follow;
and of any two, from the updates in which they first differ.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from lockstep.backends.problem import CONSTANT, Arrays, Optimizer, Problem, Schedule
from lockstep.backends.protocol import Snapshot
from lockstep.harness.conformance.optimizers.checks import PATTERNS
from lockstep.harness.conformance.optimizers.distance import distance
from lockstep.harness.conformance.optimizers.open_loop import OptimizerAlone, parameters_of
from lockstep.harness.conformance.optimizers.pair import OnSequence, Pair
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.diagnose.explain import Confirmed
from lockstep.harness.explanations import EXPLANATIONS, SINGLE_PRECISION
from lockstep.harness.explanations.evidence import Evidence, Observed
from lockstep.harness.problems.square import square
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import RAISED
from lockstep.harness.runs.intervention import Intervention

VISIBLE = 1e-4
"""Of how far a parameter came: single precision explains no larger distance."""

Formula = tuple[Optimizer, Schedule]


@runtime_checkable
class Stated(Protocol):
    """A side that may know which formula of the catalogue it is."""

    def formula(self) -> Optimizer | None:
        """That formula, as far as its arguments say; None where none is stated."""


class Hypothesis(NamedTuple):
    """What a side may do otherwise.

    Attributes:
        suspect: the index of the side that may do it.
        witness: the other one, or the formula that it follows.
        name: of the explanation.
        intervention: under which the witness does the same.
    """

    suspect: int
    witness: OptimizerAlone
    name: str
    intervention: Intervention


def explain(pair: Pair, dtype: str) -> Confirmed | None:
    """The first hypothesis under which the two agree on every sequence, or None."""
    if dtype not in pair.explanations:
        with np.errstate(all="ignore"):  # what is not finite is judged by its numbers
            pair.explanations[dtype] = _explained(pair, dtype)
    return pair.explanations[dtype]


def _explained(pair: Pair, dtype: str) -> Confirmed | None:
    found = [pair.on(pattern, dtype) for pattern in PATTERNS]
    if not _holds(lambda: all(one.ours and one.theirs for one in found)):
        return None
    if dtype == "float64" and _holds(lambda: all(map(_within_single, found))):
        same = "the two are the same to single precision: one of them forms a number in float32"
        return Confirmed(SINGLE_PRECISION.name, same)
    for one in _hypotheses(pair, found):
        if _holds(partial(_confirmed, found, one)):
            return Confirmed(one.name, f"{pair.sides[one.suspect].name} {one.intervention.description}")
    return None


def _holds(test: Callable[[], bool]) -> bool:
    """Whether a test passes; what cannot be run explains nothing."""
    try:
        return test()
    except RAISED:  # whatever an optimizer raises, or an intervention that is about something else
        return False


def _confirmed(found: Iterable[OnSequence], one: Hypothesis) -> bool:
    """Whether the witness, altered, does on every sequence what the suspect does."""
    return all(_confirmed_on(sequence, one) for sequence in found)


def _confirmed_on(found: OnSequence, one: Hypothesis) -> bool:
    altered = Altered(one.witness.trainer(found.sequence), one.intervention)
    observed = found.theirs if one.suspect else found.ours
    left = distance(parameters_of(found.sequence, altered), observed, found.sequence.dtype)
    return left.within_floor or left.within(found.limits())


def _within_single(found: OnSequence) -> bool:
    """Whether the two are as near in float64 as float32 would bring them."""
    visible = {name: VISIBLE * moved for name, moved in found.distance.moved.items()}
    return found.distance.within(visible) and found.distance.within(found.limits("float32"))


def _hypotheses(pair: Pair, found: Sequence[OnSequence]) -> Iterator[Hypothesis]:
    formulas = [_formula(given) for given in pair.given]
    for suspect, formula in ((0, formulas[1]), (1, formulas[0])):
        if formula:
            yield from _from_formula(suspect, formula, pair.updates)
    yield from _from_updates(pair, found)
    for suspect in (0, 1):
        # Of a suspect that is a formula it is known what it does, and so what the other does otherwise.
        if not formulas[suspect] and (stated := _stated(pair, 1 - suspect, found)):
            yield from _from_formula(suspect, (stated, CONSTANT), pair.updates)


def _formula(given: object) -> Formula | None:
    """What was given as one of the catalogue."""
    optimizer, schedule = given if isinstance(given, tuple) and len(given) == 2 else (given, CONSTANT)
    if isinstance(optimizer, Optimizer) and isinstance(schedule, Schedule):
        return optimizer, schedule
    return None


def _stated(pair: Pair, index: int, found: Iterable[OnSequence]) -> Optimizer | None:
    """The formula that a side says it is, if it does what that does."""
    side = pair.sides[index].side
    if isinstance(side, Stated) and (stated := side.formula()):
        same = Hypothesis(index, OptimizerAlone("", side_of(stated)), "", Intervention())
        return stated if _holds(partial(_confirmed, found, same)) else None
    return None


def _from_formula(suspect: int, formula: Formula, updates: int) -> Iterator[Hypothesis]:
    """What is known to go wrong with an optimizer or a schedule of the catalogue, in any problem that has them."""
    problem = square(optimizer=formula[0], schedule=formula[1], epochs=updates)
    for explanation in EXPLANATIONS:
        for one in explanation.propose(Evidence(problem, 0)):
            spec = one.spec if isinstance(one.spec, Problem) else problem
            changed = (spec.optimizer, spec.schedule)
            if one.on_gradients or one.on_start or not (one.on_update or changed != formula):
                continue  # it is about the problem's data, loss or gradients
            description = one.description.replace("the problem", "the formula")
            intervention = Intervention(description, on_update=one.on_update)
            yield Hypothesis(suspect, OptimizerAlone("", side_of(changed)), explanation.name, intervention)


def _from_updates(pair: Pair, found: Iterable[OnSequence]) -> Iterator[Hypothesis]:
    """What the updates suggest in which the two first differ.

    Suggestions in the same words are all tried: the number behind the words is as exact as the updates that it was read off.
    """
    observed = [evidence for one in found if (evidence := _evidence(one))]
    for explanation, suspect, one in itertools.product(EXPLANATIONS, (0, 1), observed):
        for intervention in explanation.propose(dataclasses.replace(one, swapped=suspect == 0)):
            description = intervention.description.replace("the reference's", "the other's")
            intervention = dataclasses.replace(intervention, description=description)
            yield Hypothesis(suspect, pair.sides[1 - suspect], explanation.name, intervention)


def _evidence(found: OnSequence) -> Evidence | None:
    """The first update in which the two differ; until then they had the same parameters, and always the same gradients."""
    if not _holds(lambda: not (found.distance.within_floor or found.distance.within(found.limits()))):
        return None
    step, sequence = found.distance.beyond(found.limits())[0] - 1, found.sequence
    gradients = {f"gradient/{name}": value for name, value in sequence.gradients[step].items()}
    left, right = ({**gradients, **_updates(run, step)} for run in (found.ours, found.theirs))
    before = Snapshot({name: value[step] for name, value in found.ours.items()}, step=step)
    return Evidence(sequence, step, observed=Observed(step, sequence.data[step], before, left, right))


def _updates(run: Arrays, step: int) -> Arrays:
    return {f"update/{name}": value[step + 1].astype(np.float64) - value[step] for name, value in run.items()}
