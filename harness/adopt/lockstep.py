"""The lockstep run of two adopted trainers: the same parameters and gradients for both at every step, each stage compared.

The optimizers' states have other names on each side, so neither is written into the other. Each keeps its own, and both
are fed the reference's gradients from the first step on: they stay the same unless the optimizers are not.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from lockstep.backends.adoption import Adopted
from lockstep.backends.problem import Array, Arrays, Batch
from lockstep.backends.protocol import Snapshot, State
from lockstep.harness.adopt.measured import UPDATE, disturbed, disturbed_batch, spread_of
from lockstep.harness.adopt.task import Task, rows_of
from lockstep.harness.adopt.training import Side, held
from lockstep.harness.core.ledger import Ledger, Row, compare_stages
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.modules import Modules
from lockstep.harness.numerics.budget import MULTIPLE
from lockstep.harness.numerics.limits import SAMPLES, TERMS, UNITS
from lockstep.harness.runs.free_run import describe

MOST_STEPS = 100
"""Steps taken in lockstep; of a longer run the first so many."""


@dataclass(frozen=True)
class Seen:
    """One step in lockstep.

    Attributes:
        step: from 0.
        before: the reference's state before it; both sides' parameters.
        left, right: the stages of the reference and of the other, under the reference's names.
        forward: the reference's own stages of the forward pass, in order, those that the other does not show, too.
    """

    step: int
    before: Snapshot
    left: Arrays
    right: Arrays
    forward: tuple[str, ...] = ()

    def unshown(self, stage: str) -> list[str]:
        """The reference's modules between the last stage that was compared and this one, which the other does not show."""
        found: list[str] = []
        for name in itertools.takewhile(lambda one: one != stage, self.forward):
            found = [] if name in self.left else [*found, name.partition("/")[2]]
        return [one for one in found if not one.startswith(f"{stage.partition('/')[2]}.")]  # its own parts


@dataclass(frozen=True)
class Lockstep:
    """A lockstep run: its rows, and the step at which a stage was found to part; None where none does."""

    ledger: Ledger
    parted: Seen | None = field(default=None, repr=False)


def lockstep_run(task: Task, left: Side, right: Side, modules: Modules) -> Lockstep:
    """Both sides step by step, up to the first step that has a stage whose inputs agree and whose output does not."""
    rows: list[Row] = []
    ours, theirs = left.begin(), right.begin()
    with np.errstate(all="ignore"):  # a diverging run is judged by its numbers
        for step in range(min(task.steps, MOST_STEPS)):
            before = left.trainer.read(ours)
            if not all(np.isfinite(value).all() for value in before.parameters.values()):
                lost = f"the reference diverged: its parameters are not finite before step {step}"
                rows.append(Row(step, "state", Verdict.ERROR, lost))
                break
            try:
                theirs = _written(right, theirs, before)
                batches = left.batch(task, step), right.batch(task, step)
                ours, theirs, seen = _step(step, left, right, ours, theirs, before, batches, modules)
            except Exception as error:  # what the user's code raises is a finding about it
                rows.append(Row(step, "step", Verdict.ERROR, describe(error)))
                break
            compared = compare_stages(
                step, seen.left, seen.right, _limits(task.dtype, left, seen, batches[0], modules)
            )
            rows += compared
            if any(row.blamed for row in compared):
                return Lockstep(Ledger(tuple(rows)), seen)
    return Lockstep(Ledger(tuple(rows)))


def _written(side: Side, state: State, reference: Snapshot) -> State:
    """The other side's state with the reference's parameters and buffers, and its own optimizer's state."""
    own = side.trainer.read(state)
    return side.trainer.write(
        state,
        dataclasses.replace(
            own,
            # What is frozen on one side alone is a parameter there and a buffer here.
            parameters=side.own(held(reference), own.parameters),
            buffers=side.own(held(reference), own.buffers),
        ),
    )


def _step(
    step: int,
    left: Side,
    right: Side,
    ours: State,
    theirs: State,
    before: Snapshot,
    batches: tuple[Batch, Batch],
    modules: Modules,
) -> tuple[State, State, Seen]:
    """One step of both, the reference's gradients into both optimizers."""
    own_start = right.trainer.read(theirs)
    written = right.canonical(held(own_start))
    trained = before.parameters.keys() | right.canonical(own_start.parameters).keys()
    start = {name: value for name, value in held(before).items() if name in trained}
    seen_left = {f"state/{name}": value for name, value in start.items()}
    seen_right = {f"state/{name}": written[name] for name in start if name in written}
    forward = _forward(left.trainer, ours, batches[0]), _forward(right.trainer, theirs, batches[1])
    paired = modules.paired(*forward)
    seen_left |= {name: pair[0] for name, pair in paired.items()}
    seen_right |= {name: pair[1] for name, pair in paired.items()}
    ours, loss, grads = left.trainer.gradients(ours, batches[0])
    theirs, their_loss, their_grads = right.trainer.gradients(theirs, batches[1])
    own = left.trainer.read_grads(grads)
    theirs_own = right.trainer.read_grads(their_grads)
    canonical = right.canonical(theirs_own)
    moved = left.trainer.read(ours), right.trainer.read(theirs)
    ours = left.trainer.apply(ours, grads)
    theirs = right.trainer.apply(theirs, right.trainer.write_grads(right.own(own, theirs_own)))
    after = left.trainer.read(ours), right.trainer.read(theirs)
    seen_left |= _computed(loss, own, moved[0].buffers, start, held(after[0]))
    seen_right |= _computed(
        their_loss,
        canonical,
        right.canonical(moved[1].buffers),
        {name: value for name, value in written.items() if name in trained},
        right.canonical(held(after[1])),
    )
    shared = seen_left.keys() & seen_right.keys()  # a buffer that is not linked is on one side only
    kept = [{name: value for name, value in one.items() if name in shared} for one in (seen_left, seen_right)]
    return ours, theirs, Seen(step, before, kept[0], kept[1], tuple(forward[0]))


def _forward(trainer: Adopted, state: State, batch: Batch) -> Arrays:
    return trainer.observe(state, batch, ("forward",)) if "stages" in trainer.capabilities else {}


def _computed(
    loss: object, grads: Arrays, buffers: Arrays, before: Arrays, after: Arrays
) -> dict[str, Array]:
    return {
        "loss": np.asarray(loss).reshape(()),
        **{f"gradient/{name}": value for name, value in grads.items()},
        **{f"buffers/{name}": value for name, value in buffers.items()},
        **{f"update/{name}": after[name].astype(np.float64) - value for name, value in before.items()},
    }


def _limits(dtype: str, side: Side, seen: Seen, batch: Batch, modules: Modules) -> Mapping[str, float]:
    """The largest distance that passes, by stage, as `lockstep.harness.numerics.limits` has it: of the reference's own disturbed steps."""
    eps = float(np.finfo(dtype).eps)
    near = [
        _near(side.trainer, seen.before, batch, [seed, seen.step], eps, modules) for seed in range(SAMPLES)
    ]
    spread = spread_of(near, {name: value for name, value in seen.left.items() if name in near[0]})
    sums = max(1.0, math.sqrt(rows_of(batch) / TERMS))
    # 1 − t² of a unit t near its end has lost what the cotangent that it scales down is large by.
    gradients = [value for name, value in seen.left.items() if name.startswith("gradient/")]
    largest = max(float(np.abs(value.astype(np.float64)).max(initial=0.0)) for value in gradients)
    limits = {}
    for name, value in seen.left.items():
        scale = float(np.abs(value.astype(np.float64)).max(initial=0.0))
        limits[name] = UNITS * max(eps * sums * scale, spread.get(name, 0.0))
        if name.startswith("gradient/"):
            limits[name] = max(limits[name], eps * largest)
        if name.startswith("update/"):
            # The update is a difference of parameters, and its size comes from hyperparameters.
            part = float(np.abs(held(seen.before)[name.removeprefix("update/")]).max(initial=0.0))
            limits[name] = max(limits[name], UNITS * eps * part, MULTIPLE * UPDATE * eps * scale)
    return limits


def _near(
    trainer: Adopted, before: Snapshot, batch: Batch, seed: Collection[int], eps: float, modules: Modules
) -> dict[str, Array]:
    """The same step's stages from a disturbed state, on a disturbed batch."""
    state = trainer.write(trainer.init(), disturbed(before, seed, eps))
    near = disturbed_batch(batch, seed, eps)
    forward = modules.own(_forward(trainer, state, near))
    state, loss, grads = trainer.gradients(state, near)
    moved, own = trainer.read(state), trainer.read_grads(grads)
    shaken = disturbed(Snapshot(own), [*seed, 2], eps).parameters
    after = trainer.read(trainer.apply(state, trainer.write_grads(shaken)))
    return {**forward, **_computed(loss, own, moved.buffers, moved.parameters, after.parameters)}
