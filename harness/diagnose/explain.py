"""Explanations are confirmed by training: the witness, altered by the right one, trains the same as the suspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Trace, Trainer, Unsupported
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
from lockstep.harness.explanations.each_step import read_steps
from lockstep.harness.explanations.evidence import (
    Evidence,
)
from lockstep.harness.explanations.explanation import (
    Explanation,
)
from lockstep.harness.explanations.ratios import compared
from lockstep.harness.numerics import limits as rounding
from lockstep.harness.numerics.limits import UNITS
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import RAISED, train
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.observed import Observed
from lockstep.harness.runs.trajectory import Trajectory, compare_trajectories, trajectory
from lockstep.harness.runs.updates import updates_of

UPDATES_AFTER = 10
"""Updates that are trained past the first difference: enough to decide, few enough that rounding has not grown."""

COARSE = {"float64": 1e-9, "float32": 1e-4}
"""Share of the largest magnitude, the most that rounding under an explanation may excuse: rounding to float32 would excuse more."""


@dataclass(frozen=True)
class Confirmed:
    """An explanation under which the disagreement vanishes, but for its rest.

    Attributes:
        name: of the explanation.
        description: the suspect's mistake, to follow its name.
        rest: share of the distance that it leaves, and that something else explains; 0 where nothing is left.
    """

    name: str
    description: str
    rest: float = 0.0


REST = 1e-3
"""Share of the distance of the losses, and of the parameters, that may be left where an explanation is the largest of several causes, and not the only one."""


def explain(
    witness: Implementation,
    suspect: Implementation,
    evidence: Evidence,
    *,
    explanations: Iterable[Explanation] = EXPLANATIONS,
) -> Confirmed | None:
    """The first explanation under which the witness trains the same as the suspect, or None.

    Where there is none, the first that leaves no more than REST of any distance.

    Args:
        witness: the implementation that is believed to be right.
        suspect: the one that is not.
        evidence: of their disagreement.
        explanations: that are tried, the most specific first.
    """
    updates = evidence.step // evidence.spec.accumulation + 1 + UPDATES_AFTER
    spec = evidence.spec.until(updates * evidence.spec.accumulation)
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        observed = train(spec, suspect.trainer(spec))
        shorter = _finite(spec, observed)
        if shorter != spec:
            spec, observed = shorter, train(shorter, suspect.trainer(shorter))
        search = _Search(witness, suspect, trajectory(observed), tuple(explanations))
        return search.explained(dataclasses.replace(evidence, spec=spec))


def _finite(spec: RunSpec, trace: Trace) -> RunSpec:
    """The run before a loss is not finite, less the step whose update may be why; at least one step, and whole epochs."""
    lost = ~np.isfinite(trace.losses)
    if not lost.any():
        return spec
    wanted = max(1, int(lost.argmax()) - 1)
    shorter: RunSpec = spec.until(wanted)
    if shorter.steps > wanted:  # up to the end of an epoch: of the one before
        shorter = spec.until(max(1, shorter.steps - shorter.steps // shorter.epochs))
    return shorter


class _Search:
    """The explanations of one disagreement, the largest first.

    Args:
        witness, suspect: who is believed, and who is not.
        observed: the suspect's trajectory.
        explanations: that are tried.
    """

    def __init__(
        self,
        witness: Implementation,
        suspect: Implementation,
        observed: Trajectory,
        explanations: Sequence[Explanation],
    ) -> None:
        self._witness, self._suspect = witness, suspect
        self._observed, self._explanations = observed, explanations

    def explained(self, evidence: Evidence) -> Confirmed | None:
        trial = _Trial(self._witness, self._suspect, evidence.spec, self._observed)
        if not trial.rest(Intervention()):
            return None  # nothing to explain within these steps
        largest: Confirmed | None = None
        cause = Intervention()
        for explanation, intervention in self._proposed(evidence):
            found = Confirmed(explanation.name, intervention.description, trial.rest(intervention))
            if not found.rest:
                return found
            if largest is None and found.rest <= REST:
                largest, cause = found, intervention
        return None if largest is None else self._with_the_rest(largest, cause, evidence)

    def _proposed(self, evidence: Evidence) -> Iterator[tuple[Explanation, Intervention]]:
        sides = (self._suspect, self._witness) if evidence.swapped else (self._witness, self._suspect)
        steps = cache(lambda: read_steps(evidence, _updates(sides, evidence.spec)))
        known = dataclasses.replace(evidence, steps=steps)
        for explanation in self._explanations:
            for intervention in explanation.propose(known):
                yield explanation, intervention

    def _with_the_rest(self, largest: Confirmed, cause: Intervention, evidence: Evidence) -> Confirmed:
        """The largest cause, and what explains the rest: the same search, with a witness that makes the same mistake."""
        if evidence.swapped or cause.spec or cause.suspect or cause.on_suspect:
            return largest  # no run in lockstep with such a witness
        altered = _AlteredImplementation(self._witness, cause)
        differing = (
            one
            for one in _updates((altered, self._suspect), evidence.spec)
            if compared(dataclasses.replace(evidence, observed=one), "update").differing
        )
        search = _Search(altered, self._suspect, self._observed, self._explanations)
        rest = search.explained(dataclasses.replace(evidence, observed=next(differing, None)))
        if rest is None:
            return largest
        description = f"{largest.description}; it also {rest.description}"
        return Confirmed(largest.name, description, largest.rest * rest.rest)


def _updates(sides: tuple[Implementation, Implementation], spec: RunSpec) -> Iterator[Observed]:
    """The updates of every step in lockstep, the reference first."""
    reference, other = (one.trainer(spec) for one in sides)
    return updates_of(spec, reference, other)


class _Trial:
    """Whether an altered witness has the suspect's trajectory, or how much of their first distance is left."""

    def __init__(
        self, witness: Implementation, suspect: Implementation, spec: RunSpec, observed: Trajectory
    ) -> None:
        self._witness, self._suspect, self._spec, self._observed = witness, suspect, spec, observed
        # The growth of rounding in the unaltered run.
        limits = rounding.of_run_inputs(spec, witness)
        self._widest = {name: limit.max(initial=0.0) for name, limit in limits.items()}
        self._first: dict[str, float] = {}

    def rest(self, intervention: Intervention) -> float:
        """0 where both train the same; else the share of the first trial's distances, infinite where one cannot be trained."""
        spec = self._spec if intervention.spec is None else intervention.spec
        try:
            if self._witness.supports(spec) is not None:
                return np.inf
            ours, theirs = _trajectory(self._witness, spec, intervention), self._theirs(intervention)
            narrow = {
                name: np.maximum(limit, self._widest.get(name, 0.0))
                for name, limit in rounding.of_rounding(self._spec.dtype, ours).items()
            }
            if self._same(ours, theirs, narrow) or self._same_but_for_growth(
                intervention, spec, ours, theirs, narrow
            ):
                return 0.0
            return self._left(ours, theirs)
        except RAISED:  # user's code may raise anything on altered numbers
            return np.inf

    def _theirs(self, intervention: Intervention) -> Trajectory:
        """The suspect's trajectory; another one where it is the suspect that is changed."""
        if intervention.suspect is not None:
            return _trajectory(intervention.suspect, self._spec)
        if intervention.on_suspect is not None:
            return _trajectory(self._suspect, self._spec, intervention.on_suspect)
        return self._observed

    def _same_but_for_growth(
        self,
        intervention: Intervention,
        spec: RunSpec,
        ours: Trajectory,
        theirs: Trajectory,
        narrow: Trajectory,
    ) -> bool:
        """A change that makes steps longer magnifies rounding: its own twins measure by how much, up to COARSE."""
        most = rounding.shares(ours, COARSE[self._spec.dtype])
        if compare_trajectories(ours, theirs, most).first is not None:
            return False
        own = rounding.of_run_inputs(spec, _AlteredImplementation(self._witness, intervention))
        wide = {name: np.maximum(narrow[name], np.minimum(own[name], most[name])) for name in narrow}
        return self._same(ours, theirs, wide)

    def _left(self, ours: Trajectory, theirs: Trajectory) -> float:
        """The share that is left of the losses' distance, or of the largest of all parameters, whichever is larger; never 0."""
        distances: dict[str, float] = {}
        for name in ours.keys() & theirs.keys():
            kind = name.partition("/")[0]
            distances[kind] = max(distances.get(kind, 0.0), _distance(ours[name], theirs[name]))
        self._first = self._first or distances
        shares = [one / self._first[kind] for kind, one in distances.items() if self._first.get(kind)]
        return max(shares, default=np.inf) or np.inf

    def _same(self, ours: Trajectory, theirs: Trajectory, limits: Trajectory) -> bool:
        rows = compare_trajectories(ours, theirs, limits).rows
        # A leaf that contains only rounding, like a bias before a batch norm, is no evidence.
        noise = UNITS * float(np.finfo(self._spec.dtype).eps) * max(row.scale for row in rows)
        return all(
            row.verdict is Verdict.AGREE or (row.verdict is Verdict.INCONCLUSIVE and row.limit <= noise)
            for row in rows
        )


def _distance(left: Array, right: Array) -> float:
    """The largest; infinite where one of them is not finite, or has another shape."""
    return rounding.largest_distance(left, right) if left.shape == right.shape else np.inf


@dataclass(frozen=True)
class _AlteredImplementation:
    """The witness under an intervention, as an implementation whose runs can be disturbed."""

    witness: Implementation
    intervention: Intervention

    @property
    def name(self) -> str:
        return self.witness.name

    def supports(self, spec: RunSpec, /) -> Unsupported | None:
        return self.witness.supports(spec)

    def trainer(self, spec: RunSpec, /) -> Trainer:
        return Altered(self.witness.trainer(spec), self.intervention)

    def environment(self) -> Mapping[str, str | int | bool]:
        return self.witness.environment()


def _trajectory(
    implementation: Implementation, spec: RunSpec, intervention: Intervention | None = None
) -> Trajectory:
    """Losses and final state of a whole run; step by step where it is altered."""
    trainer = implementation.trainer(spec)
    if intervention is not None:
        trainer = Altered(trainer, intervention)
    return trajectory(train(spec, trainer))
