"""Explanations are confirmed by training: the witness, altered by the right one, trains the same as the suspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

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
from lockstep.harness.numerics import limits as rounding
from lockstep.harness.numerics.limits import UNITS
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import RAISED, train
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.trajectory import Trajectory, compare_trajectories, trajectory

UPDATES_AFTER = 10
"""Updates that are trained past the first difference: enough to decide, few enough that rounding has not grown."""

COARSE = {"float64": 1e-9, "float32": 1e-4}
"""Share of the largest magnitude, the most that rounding under an explanation may excuse: rounding to float32 would excuse more."""


@dataclass(frozen=True)
class Confirmed:
    """An explanation under which the disagreement vanishes.

    Attributes:
        name: of the explanation.
        description: the suspect's mistake, to follow its name.
    """

    name: str
    description: str


def explain(
    witness: Implementation,
    suspect: Implementation,
    evidence: Evidence,
    *,
    explanations: Iterable[Explanation] = EXPLANATIONS,
) -> Confirmed | None:
    """The first explanation under which the witness trains the same as the suspect, or None.

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
        trial = _Trial(witness, spec, trajectory(observed))
        if trial.confirms(Intervention()):
            return None  # nothing to explain within these steps
        known = dataclasses.replace(evidence, spec=spec)
        for explanation in explanations:
            for intervention in explanation.propose(known):
                if trial.confirms(intervention):
                    return Confirmed(explanation.name, intervention.description)
    return None


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


class _Trial:
    """The suspect's trajectory, and whether an altered witness has the same."""

    def __init__(self, witness: Implementation, spec: RunSpec, observed: Trajectory) -> None:
        self._witness, self._spec, self._observed = witness, spec, observed
        # The growth of rounding in the unaltered run.
        limits = rounding.of_run_inputs(spec, witness)
        self._widest = {name: limit.max(initial=0.0) for name, limit in limits.items()}

    def confirms(self, intervention: Intervention) -> bool:
        """Whether both train the same; a run that one of them cannot train explains nothing."""
        spec = self._spec if intervention.spec is None else intervention.spec
        try:
            if self._witness.supports(spec) is not None:
                return False
            ours = _trajectory(self._witness, spec, intervention)
            theirs = self._observed
            if intervention.suspect is not None:
                theirs = _trajectory(intervention.suspect, self._spec)
            narrow = {
                name: np.maximum(limit, self._widest.get(name, 0.0))
                for name, limit in rounding.of_rounding(self._spec.dtype, ours).items()
            }
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

    def _same(self, ours: Trajectory, theirs: Trajectory, limits: Trajectory) -> bool:
        rows = compare_trajectories(ours, theirs, limits).rows
        # A leaf that contains only rounding, like a bias before a batch norm, is no evidence.
        noise = UNITS * float(np.finfo(self._spec.dtype).eps) * max(row.scale for row in rows)
        return all(
            row.verdict is Verdict.AGREE or (row.verdict is Verdict.INCONCLUSIVE and row.limit <= noise)
            for row in rows
        )


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
