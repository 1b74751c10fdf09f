"""What crosses the boundary: names, shapes, dtypes, and that training starts where the problem says."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import UNAVERAGED
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.equality import canonical, same
from lockstep.harness.conformance.subject import Subject, advance


def start(subject: Subject) -> None:
    """A fresh state is the problem's own, to the bit."""
    problem, snapshot = subject.problem, subject.trainer.read(subject.trainer.init())
    canonical("initial parameters", snapshot.parameters, problem.parameter_shapes, problem.dtype)
    same("initial parameters", snapshot.parameters, problem.initial_parameters())
    same("initial buffers", snapshot.buffers, problem.initial_buffers())
    expect(snapshot.step == 0, "0 batches seen before the first step", snapshot.step)


def given(subject: Subject) -> None:
    """What is said to have been given is the problem's data and initial parameters, to the bit."""
    problem, batches = subject.problem, subject.problem.batches()
    expected = {"data/x": batches.x, "data/y": batches.y}
    expected |= {f"initial/{name}": value for name, value in problem.initial_parameters().items()}
    inputs = subject.trainer.given()
    same("given", dict(sorted(inputs.items())), dict(sorted(expected.items())))


def snapshots(subject: Subject) -> None:
    """After some steps everything in a snapshot is in the canonical layout."""
    problem, trainer = subject.problem, subject.trainer
    snapshot = trainer.read(advance(trainer, trainer.init(), subject.batch, 2))
    shapes = problem.parameter_shapes
    canonical("parameters", snapshot.parameters, shapes, problem.dtype)
    canonical(
        "buffers", snapshot.buffers, {k: one.shape for k, one in problem.buffers.items()}, problem.dtype
    )
    canonical("accumulator", snapshot.accumulator, shapes if problem.accumulation > 1 else {}, problem.dtype)
    canonical("average", snapshot.average, shapes if problem.average != UNAVERAGED else {}, problem.dtype)
    expect(snapshot.step == 2, "2 batches seen after two steps", snapshot.step)
    if "optimizer_state" in trainer.capabilities:
        slots = problem.optimizer.initial_state(problem.initial_parameters())
        canonical("optimizer", snapshot.optimizer, {k: one.shape for k, one in slots.items()}, problem.dtype)


def gradients(subject: Subject) -> None:
    """A loss without axes and a gradient for each parameter, all in the problem's dtype."""
    problem, trainer = subject.problem, subject.trainer
    _, loss, grads = trainer.gradients(trainer.init(), subject.batch)
    one = np.asarray(loss)
    expect(one.shape == (), "a loss without axes", f"shape {one.shape}")
    expect(one.dtype == problem.dtype, f"a loss in {problem.dtype}", one.dtype)
    canonical("gradients", trainer.read_grads(grads), problem.parameter_shapes, problem.dtype)


def predictions(subject: Subject) -> None:
    """A row for each row of x, in the problem's dtype, as the reference predicts from the same state."""
    problem, trainer = subject.problem, subject.trainer
    x = problem.batches().x
    snapshot = trainer.read(advance(trainer, trainer.init(), subject.batch, 3))
    found = trainer.predict(trainer.write(trainer.init(), snapshot), x)
    reference = subject.reference
    expected = reference.predict(reference.write(reference.init(), snapshot), x)
    expect(isinstance(found, np.ndarray), "a NumPy array", type(found).__name__)
    expect(found.dtype == expected.dtype, f"a prediction in {expected.dtype}", found.dtype)
    expect(found.shape == expected.shape, f"a prediction of shape {expected.shape}", found.shape)
    off = float(np.abs(found - expected).max() / np.abs(expected).max())
    expect(off <= subject.close, f"the reference's prediction within {subject.close:.2g}", f"{off:.2g} apart")
