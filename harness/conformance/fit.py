"""The fast path: `fit` trains what `step` trains, and recording changes nothing."""

from __future__ import annotations

import numpy as np

from lockstep.backends.protocol import LOSSES_ONLY, Recording
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.equality import near, near_state, same, same_state
from lockstep.harness.conformance.subject import Subject


def fit(subject: Subject) -> None:
    """`fit` trains what one `step` after the other trains; losses, final state, every epoch's parameters."""
    problem, trainer = subject.problem, subject.trainer
    trace = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    state, losses = trainer.init(), []
    for batch in problem.batches():
        state, loss = trainer.step(state, batch)
        losses.append(np.asarray(loss))
    near("the losses of fit", {"losses": trace.losses}, {"losses": np.stack(losses)}, subject.close)
    near_state("the final state of fit", trace.final, trainer.read(state), subject.close)
    expect(trace.parameters is not None, "recorded parameters, which were asked for", None)
    recorded = dict(trace.parameters or {})
    epochs = {name: len(value) for name, value in recorded.items()}
    full = all(count == problem.epochs + 1 for count in epochs.values())
    expect(full, f"the start and {problem.epochs} epochs recorded", epochs)
    same(
        "recorded at the start",
        {name: value[0] for name, value in recorded.items()},
        problem.initial_parameters(),
    )
    same("recorded last", {name: value[-1] for name, value in recorded.items()}, trace.final.parameters)


def recording(subject: Subject) -> None:
    """Recording changes no bit, and nothing is recorded unasked."""
    trainer, batches = subject.trainer, subject.problem.batches
    plain = trainer.fit(trainer.init(), batches(), LOSSES_ONLY)
    recorded = trainer.fit(trainer.init(), batches(), Recording(parameters=True))
    expect(plain.parameters is None, "no parameters recorded where none were asked for", "some")
    same("the losses of a recorded run", {"losses": recorded.losses}, {"losses": plain.losses})
    same_state("the final state of a recorded run", recorded.final, plain.final)
