"""The lockstep run: at every step both sides start from the reference's whole state, and each stage is compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, State, Trainer
from lockstep.harness.core.ledger import COARSE, Ledger, Row, compare_stages
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import describe
from lockstep.harness.runs.observed import Observed
from lockstep.harness.runs.stages import coarsest, fields, gradients, observed_step, out_of_reach

MOST_STEPS = 12
"""Steps that are compared by default: a step in lockstep costs some ten plain ones."""

MOST_CARRIED = 100
"""Steps that are compared where the other side carries its own optimizer's state: of a longer run the first so many."""

UNSHOWN = "the other side does not show it"
"""The reason why a stage that only the reference shows is not compared."""

StageLimits = Callable[[Snapshot, Batch], Mapping[str, float]]
"""(state before the step, batch) -> the largest distance that passes, by the name of the stage, as `compare_stages` takes it."""


@runtime_checkable
class Carrying(Trainer, Protocol):
    """A trainer whose optimizer keeps its state under names of its own: `write` leaves that state as it was.

    In a lockstep run it carries that state itself, from the first step on, fed with the reference's gradients.
    """

    def align(self, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays, Mapping[str, str]]:
        """The reference's stages, this trainer's under their names and in their layouts, and why some cannot be compared."""


@runtime_checkable
class Answering(Protocol):
    """A reference that trained elsewhere: it answers with the recorded stages of its steps."""

    def snapshot_at(self, step: int) -> Snapshot:
        """The state before a step."""

    def stages_at(self, step: int) -> Arrays:
        """The recorded part of `lockstep.harness.runs.stages.observed_step`, in any order; other kinds are not compared."""


@dataclass(frozen=True)
class LockstepRun:
    """The result of a lockstep run.

    Attributes:
        ledger: every stage that was compared.
        observed: the first step with a stage whose inputs agree and whose output does not; None where there is none.
    """

    ledger: Ledger
    observed: Observed | None = field(default=None, repr=False)


def lockstep_run(
    spec: RunSpec,
    reference: Trainer | Answering,
    other: Trainer,
    steps: Iterable[int],
    limits: StageLimits,
) -> LockstepRun:
    """Train the reference; compare every stage of the chosen steps on equal inputs.

    Each chosen step starts from the reference's snapshot on both sides, and the reference's gradients go into the
    other's optimizer, so that no error accumulates and the first stage that differs is the one that is wrong. Where the
    other side carries its optimizer's state itself, every step up to the last chosen one is compared, until one differs.
    A reference that answers has the chosen steps alone: nothing is carried from one to the next.

    Args:
        spec: the run.
        reference, other: two trainers of it; the reference may be one that answers.
        steps: which steps to compare, from 0.
        limits: the largest distance that passes, by stage.

    Raises:
        LockstepError: a step is beyond the run, or there is none.
    """
    wanted = sorted(set(steps))
    if not wanted or wanted[0] < 0 or wanted[-1] >= spec.steps:
        raise LockstepError(
            "the steps to compare are not steps of the run",
            str(wanted),
            f"give some of 0 to {spec.steps - 1}",
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging run is judged by its numbers
        return _Run(spec, reference, other, wanted, limits).compare()


def steps_of(spec: RunSpec, other: Trainer, also: Iterable[int] = ()) -> list[int]:
    """The steps to compare by default: a sample, or the first ones where the other side carries its optimizer's state."""
    if isinstance(other, Carrying):
        return list(range(min(spec.steps, MOST_CARRIED)))
    return chosen_steps(spec, also)


def chosen_steps(spec: RunSpec, also: Iterable[int] = ()) -> list[int]:
    """The first steps, the last, both sides of each change on the way, and a geometric sample; about MOST_STEPS.

    Args:
        spec: the run.
        also: steps that are compared in any case.
    """
    last, every = spec.steps - 1, spec.accumulation
    first = [0, 1, 2, last, every - 1, 2 * every - 1]
    sample = np.geomspace(3, max(last, 3), 5).astype(int).tolist()
    ranked = dict.fromkeys(step for step in (*also, *first, *spec.landmarks, *sample) if 0 <= step <= last)
    return sorted(list(ranked)[:MOST_STEPS])


class _Run:
    """One lockstep run, on its way."""

    def __init__(
        self,
        spec: RunSpec,
        reference: Trainer | Answering,
        other: Trainer,
        wanted: list[int],
        limits: StageLimits,
    ) -> None:
        self._spec, self._reference, self._other = spec, reference, other
        self._wanted, self._limits = wanted, limits
        self._undivided = set(chosen_steps(spec))
        self._rows: list[Row] = []
        self._observed: Observed | None = None

    def compare(self) -> LockstepRun:
        if isinstance(self._reference, Answering):
            self._answered(self._reference)
        else:
            self._trained(self._reference)
        return LockstepRun(Ledger(tuple(self._rows)), self._observed)

    def _answered(self, reference: Answering) -> None:
        for step, batch in enumerate(itertools.islice(self._spec.batches(), self._wanted[-1] + 1)):
            if step in self._wanted:
                self._step(step, reference.snapshot_at(step), batch, None)

    def _trained(self, reference: Trainer) -> None:
        self._rows += _initial(reference, self._other)
        carried = self._other.init() if isinstance(self._other, Carrying) else None
        state = reference.init()
        for step, batch in enumerate(itertools.islice(self._spec.batches(), self._wanted[-1] + 1)):
            if step in self._wanted or carried is not None:
                snapshot = reference.read(state)
                if not is_finite(snapshot):
                    lost = f"the reference diverged: its parameters are not finite before step {step}"
                    self._rows.append(Row(step, "state", Verdict.ERROR, lost))
                    break
                carried = self._step(step, snapshot, batch, carried)
            if isinstance(self._other, Carrying) and (carried is None or self._observed is not None):
                break
            state, _ = reference.step(state, batch)

    def _step(self, step: int, snapshot: Snapshot, batch: Batch, carried: State) -> State:
        """Compare one step; the other side's state after it, None where there is none."""
        undivided = carried is None or step in self._undivided
        ours = self._reference_stages(step, snapshot, batch, undivided)
        try:
            begun = self._other.init() if carried is None else carried
            begun = self._other.write(begun, snapshot)
            # Where the reference shows no gradients, its step is whole: each side applies its own.
            injected = gradients(ours) or None
            theirs, after = observed_step(self._other, begun, batch, injected, undivided)
            limits = self._limited(snapshot, batch)
        except Exception as error:  # an exception of a backend is a finding about it, not the harness' end
            self._rows.append(Row(step, "step", Verdict.ERROR, describe(error)))
            return None
        shown = _recorded_alone(ours, theirs) if isinstance(self._reference, Answering) else (ours, theirs)
        left, right, unreachable = aligned(self._other, *shown)
        reasons = {**out_of_reach(self._other, self._spec, step), **unreachable}
        rows = compare_stages(step, left, right, limits, reasons)
        self._rows += rows
        if self._observed is None and any(row.blamed for row in rows):
            self._observed = Observed(step, batch, snapshot, left, right)
        return None if carried is None else after

    def _limited(self, snapshot: Snapshot, batch: Batch) -> Mapping[str, float]:
        """The limits; where modules of both sides compute in half precision those of that."""
        limits = self._limits(snapshot, batch)
        if isinstance(self._reference, Answering) or not all(map(coarsest, (self._reference, self._other))):
            return limits
        coarse = {name.removeprefix(COARSE): one for name, one in limits.items() if name.startswith(COARSE)}
        return {**limits, **coarse}

    def _reference_stages(self, step: int, snapshot: Snapshot, batch: Batch, undivided: bool) -> Arrays:
        if isinstance(self._reference, Answering):
            return self._reference.stages_at(step)
        start = self._reference.write(self._reference.init(), snapshot)
        return observed_step(self._reference, start, batch, undivided=undivided)[0]


def _recorded_alone(recorded: Arrays, computed: Arrays) -> tuple[Arrays, Arrays]:
    """The recorded stages in the order of computation, and the computed ones of their kinds: not all were recorded."""
    kinds = {_kind(name) for name in recorded}
    here = {name: value for name, value in computed.items() if _kind(name) in kinds}
    order = {kind: place for place, kind in enumerate(dict.fromkeys(_kind(name) for name in here))}
    places = {name: place for place, name in enumerate(here)}

    def place(name: str) -> tuple[int, int]:
        return order.get(_kind(name), len(order)), places.get(name, len(places))

    return {name: recorded[name] for name in sorted(recorded, key=place)}, here


def _kind(stage: str) -> str:
    return stage.partition("/")[0]


def aligned(other: Trainer, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays, Mapping[str, str]]:
    """The reference's stages and the other side's, paired, and why some cannot be compared."""
    return other.align(left, right) if isinstance(other, Carrying) else (left, right, {})


def _initial(reference: Trainer, other: Trainer) -> list[Row]:
    """The inputs of both, and the states that both start from by themselves."""
    ours, theirs = (
        {**_under("given", one.given()), **_under("initial", fields(one.read(one.init())))}
        for one in (reference, other)
    )
    left, right, unreachable = aligned(other, ours, theirs)
    return compare_stages(0, left, right, {}, unreachable)


def _under(kind: str, arrays: Arrays) -> dict[str, Array]:
    return {f"{kind}/{name}": value for name, value in arrays.items()}


def is_finite(snapshot: Snapshot) -> bool:
    """Whether all parameters are: an optimizer's state may begin with an infinity, as a line search does."""
    return all(np.isfinite(value).all() for value in snapshot.parameters.values())
