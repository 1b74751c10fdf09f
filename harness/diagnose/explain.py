"""Explanations are confirmed by training: the witness, altered by the right one, trains the same as the suspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lockstep.backends.problem import Array
from lockstep.backends.protocol import Trace, Trainer, Unsupported
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.explanations import (
    EXPLANATIONS,
)
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
        search = _Search(
            witness, suspect, _Trial(witness, suspect, spec, trajectory(observed)), tuple(explanations)
        )
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
    """The explanations of one disagreement, the largest first."""

    def __init__(
        self,
        witness: Implementation,
        suspect: Implementation,
        trial: _Trial,
        explanations: Sequence[Explanation],
    ) -> None:
        self._witness, self._suspect = witness, suspect
        self._trial, self._explanations = trial, explanations

    def explained(self, evidence: Evidence) -> Confirmed | None:
        if self._trial.confirms(Intervention()):
            return None  # nothing to explain within these steps
        largest: Confirmed | None = None
        cause = Intervention()
        for explanation, intervention in self._proposed(evidence):
            if self._trial.confirms(intervention):
                return Confirmed(explanation.name, intervention.description)
            if largest is None and self._trial.rest <= REST:
                largest = Confirmed(explanation.name, intervention.description, self._trial.rest)
                cause = intervention
        return None if largest is None else self._with_the_rest(largest, cause, evidence)

    def _proposed(self, evidence: Evidence) -> Iterator[tuple[Explanation, Intervention]]:
        sides = (self._suspect, self._witness) if evidence.swapped else (self._witness, self._suspect)
        known = dataclasses.replace(evidence, updates=partial(_updates, sides))
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
        trial = _Trial(altered, self._suspect, evidence.spec, self._trial.observed)
        search = _Search(altered, self._suspect, trial, self._explanations)
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
    """The suspect's trajectory, and whether an altered witness has the same.

    Attributes:
        observed: the suspect's trajectory.
        rest: the share of the first trial's distances that the last one has left; infinite where it could not be trained.
    """

    def __init__(
        self, witness: Implementation, suspect: Implementation, spec: RunSpec, observed: Trajectory
    ) -> None:
        self._witness, self._suspect, self._spec, self.observed = witness, suspect, spec, observed
        # The growth of rounding in the unaltered run.
        limits = rounding.of_run_inputs(spec, witness)
        self._widest = {name: limit.max(initial=0.0) for name, limit in limits.items()}
        self._distances: dict[str, float] = {}
        self.rest = np.inf

    def confirms(self, intervention: Intervention) -> bool:
        """Whether both train the same; a run that one of them cannot train explains nothing."""
        spec = self._spec if intervention.spec is None else intervention.spec
        self.rest = np.inf
        try:
            if self._witness.supports(spec) is not None:
                return False
            ours = _trajectory(self._witness, spec, intervention)
            theirs = self.observed
            if intervention.suspect is not None:
                theirs = _trajectory(intervention.suspect, self._spec)
            if intervention.on_suspect is not None:
                theirs = _trajectory(self._suspect, self._spec, intervention.on_suspect)
            narrow = {
                name: np.maximum(limit, self._widest.get(name, 0.0))
                for name, limit in rounding.of_rounding(self._spec.dtype, ours).items()
            }
            self.rest = self._left(ours, theirs)
            if self._same(ours, theirs, narrow):
                return True
            # A change that makes steps longer magnifies rounding: its own twins measure by how much, up to COARSE.
            most = rounding.shares(ours, COARSE[self._spec.dtype])
            if compare_trajectories(ours, theirs, most).first is not None:
                return False
            own = rounding.of_run_inputs(spec, _AlteredImplementation(self._witness, intervention))
            wide = {name: np.maximum(narrow[name], np.minimum(own[name], most[name])) for name in narrow}
            return self._same(ours, theirs, wide)
        except RAISED:  # user's code may raise anything on altered numbers
            return False

    def _left(self, ours: Trajectory, theirs: Trajectory) -> float:
        """The share of the first trial's distances that is left: of the losses, or of all parameters, whichever is larger."""
        distances: dict[str, float] = {}
        for name in ours.keys() & theirs.keys():
            kind = name.partition("/")[0]
            distances[kind] = max(distances.get(kind, 0.0), _largest_distance(ours[name], theirs[name]))
        self._distances = self._distances or distances
        return max(one / self._distances[kind] for kind, one in distances.items() if self._distances[kind])

    def _same(self, ours: Trajectory, theirs: Trajectory, limits: Trajectory) -> bool:
        rows = compare_trajectories(ours, theirs, limits).rows
        # A leaf that contains only rounding, like a bias before a batch norm, is no evidence.
        noise = UNITS * float(np.finfo(self._spec.dtype).eps) * max(row.scale for row in rows)
        return all(
            row.verdict is Verdict.AGREE or (row.verdict is Verdict.INCONCLUSIVE and row.limit <= noise)
            for row in rows
        )


def _largest_distance(left: Array, right: Array) -> float:
    """Infinite where one of them is not finite, or has another shape."""
    if left.shape != right.shape:
        return np.inf
    distance = np.abs(left.astype(np.float64) - right)
    return float(np.nan_to_num(distance, nan=np.inf).max(initial=0.0))


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
