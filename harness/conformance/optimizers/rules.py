"""What any optimizer must do, whatever it should equal: keep its inputs, repeat, and continue from a checkpoint."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import Grads, State
from lockstep.harness.conformance.optimizers.open_loop import OpenLoop, parameters_of
from lockstep.harness.conformance.optimizers.pair import Finding, OnSequence, Pair, form_of
from lockstep.harness.conformance.optimizers.sequences import FIRST, SPIKE, STOPPING
from lockstep.harness.conformance.optimizers.sides import side_of
from lockstep.harness.core.verdict import Verdict

SAVED = 5
"""The update after which a state is saved."""


def form(pair: Pair, dtype: str) -> Finding:
    """Every parameter keeps its dtype and its shape."""
    found = pair.on(FIRST, dtype)
    for name, value in found.ours.items():
        if form_of(value) != (expected := form_of(found.sequence.start[name][np.newaxis])):
            return Finding(Verdict.DIFFER, f"{name}: {form_of(value)} for {expected}")
    return Finding(Verdict.AGREE)


def arguments_unchanged(pair: Pair, dtype: str) -> Finding:
    """Gradients, and the parameters that a run starts from, are read and not changed."""
    sequence = pair.on(STOPPING, dtype).sequence
    start = {name: value.copy() for name, value in sequence.start.items()}
    trainer = OpenLoop(pair.sides[0].side, start)
    state = trainer.init()
    for update, batch in enumerate(sequence.batches(), start=1):
        state, _, grads = trainer.gradients(state, batch)
        state = trainer.apply(state, grads)
        if name := _first_differing(trainer.read_grads(grads), sequence.gradients[update - 1]):
            return Finding(Verdict.DIFFER, f"update {update} changes the gradient of {name} in place")
    if name := _first_differing(start, sequence.start):
        return Finding(Verdict.DIFFER, f"the array that {name} starts from is changed in place")
    return Finding(Verdict.AGREE)


class _Resumed(OpenLoop):
    """One that is saved after update SAVED, and loaded into a fresh optimizer."""

    def apply(self, state: State, grads: Grads) -> State:
        state = super().apply(state, grads)
        return self._side.resumed(state) if self.read(state).step == SAVED else state


def continues(pair: Pair, dtype: str) -> Finding:
    """Saved and loaded into a fresh optimizer, it continues as if it had not been, to the bit."""
    when = f"saved after update {SAVED} and loaded into a fresh optimizer"
    found = pair.on(SPIKE, dtype)
    return _same_bits(found, _Resumed(pair.sides[0].side, found.sequence.start), when)


def repeats(pair: Pair, dtype: str) -> Finding:
    """A second optimizer, made anew, does the same as the first, to the bit."""
    found = pair.on(STOPPING, dtype)
    return _same_bits(found, OpenLoop(side_of(pair.given[0]), found.sequence.start), "run a second time")


def _same_bits(found: OnSequence, again: OpenLoop, when: str) -> Finding:
    run = parameters_of(found.sequence, again)
    for update in range(found.sequence.steps + 1):
        left, right = ({name: value[update] for name, value in one.items()} for one in (run, found.ours))
        if name := _first_differing(left, right):
            off = np.abs(left[name].astype(np.float64) - right[name]).max(initial=0.0)
            return Finding(Verdict.DIFFER, f"{when}, update {update} leaves {name} {off:.2g} away")
    return Finding(Verdict.AGREE)


def _first_differing(found: Arrays, expected: Arrays) -> str:
    """The first name whose array is not the same to the bit; empty if there is none."""
    return next((name for name, value in expected.items() if found[name].tobytes() != value.tobytes()), "")
