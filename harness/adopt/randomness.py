"""Whether a step of adopted code repeats: random numbers that nobody shares make every comparison a matter of luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lockstep.backends.adoption import Adopted, AdoptionError
from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array, Batch
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.side import Side, forms, step_of
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.tolerance import FIXED

First = tuple[Array, Snapshot]
"""The loss of a first step, and the state after it."""


def _first_step(trainer: Adopted, start: Snapshot, batch: Batch) -> First:
    state, loss = trainer.step(trainer.write(trainer.init(), start), batch)
    return np.asarray(loss), trainer.read(state)


def refuse_random(trainer: Adopted, batch: Batch) -> None:
    """Raise an AdoptionError where the same step from the same state gives other numbers the second time, or no number."""
    with step_of(trainer):
        start = trainer.read(trainer.init())
        one, two = (_first_step(trainer, start, batch) for _ in range(2))
    if not np.isfinite(one[0]).all():
        raise AdoptionError(
            f"{trainer.name}: the loss of its first step is not finite: its parameters cannot be matched",
            str(one[0]),
            "give a first batch without NaN, or a mapping",
        )
    _refuse_if_different(trainer.name, one, two, trainer.dtype)


def _refuse_if_different(name: str, one: First, two: First, dtype: str) -> None:
    """Threads change a result within rounding; a generator changes it by more."""
    if odd := _different(one, two, dtype):
        raise AdoptionError(
            f"{name} draws random numbers: the same step from the same state gives other numbers",
            f"{odd[0]}{f' and {len(odd) - 1} others' if odd[1:] else ''} differ",
            "masks are given to dropout and to torch.bernoulli by themselves, to nothing else; put the rest into evaluation "
            "mode or its rate to 0, pass its numbers with the batch, or, where all sides draw from the same generator, give "
            "each adopt() the same seed or key",
        )


def _different(one: First, two: First, dtype: str) -> list[str]:
    pairs = {"the loss": (one[0], two[0])}
    pairs |= {name: (value, two[1].parameters[name]) for name, value in one[1].parameters.items()}
    return [name for name, pair in pairs.items() if differ(*pair, dtype)]


def check_repeats(side: Side, task: Task) -> Side:
    """The side, with the form of its optimizer's state; unchanged where its code fails: its run will report that.

    Raises:
        AdoptionError: the same step gives other numbers the second time.
    """
    batch = side.masked(0, task.data[0])
    try:
        one, two = (_first_step(side.trainer, side.start, batch) for _ in range(2))
    except LockstepError:
        raise
    except Exception:
        return side
    _refuse_if_different(side.name, one, two, task.dtype)
    return dataclasses.replace(side, form=forms(two[1].optimizer))


def refuse_other_draws(sides: Sequence[Side], task: Task) -> None:
    """Raise an AdoptionError where a side's numbers depend on a generator that not all sides share."""
    generators = {side.name: side.trainer.generator for side in sides}
    if len(set(generators.values())) == 1:
        return
    for side in sides:
        if drawn(side.trainer, side.start, side.masked(0, task.data[0])):
            listed = ", ".join(f"{name}: {one or 'none'}" for name, one in generators.items())
            raise AdoptionError(
                f"{side.name} draws random numbers that the others do not draw",
                listed,
                "masks are given to dropout by themselves, to nothing else; put the rest into evaluation mode or its rate to 0, "
                "or pass its numbers with the batch",
            )


def drawn(trainer: Adopted, start: Snapshot, batch: Batch) -> str:
    """The generator whose numbers a step depends on; empty where it depends on none."""
    other = trainer.redrawn()
    if other is None:
        return ""
    with step_of(trainer):
        one, two = (_first_step(each, start, batch) for each in (trainer, other))
    return trainer.generator if _different(one, two, trainer.dtype) else ""


def differ(left: Array, right: Array, dtype: str) -> bool:
    """Whether two arrays differ by more than the fixed tolerance of their dtype; values that are not finite do not count."""
    with np.errstate(all="ignore"):
        a, b = (np.nan_to_num(one.astype(np.float64), posinf=0.0, neginf=0.0) for one in (left, right))
        return bool((np.abs(a - b) > FIXED[dtype].rtol * np.abs(a).max(initial=0.0)).any())
