"""Stages: complete, in order, those of the real step, and computed from what is injected."""

from __future__ import annotations

import itertools

import numpy as np

from lockstep.backends.problem import Arrays
from lockstep.backends.protocol import STAGES, is_wanted
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.equality import near, same
from lockstep.harness.conformance.subject import Subject


def complete(subject: Subject) -> None:
    """Every stage of a step, in its order; of these, those that are asked for."""
    trainer, batch, problem = subject.trainer, subject.batch, subject.problem
    state = trainer.init()
    stages = trainer.observe(state, batch, STAGES)
    layers = [layer.name for layer in problem.layers]
    expected = [
        *batch.stages(),
        *(f"forward/{name}" for name in layers),
        "loss",
        *(f"cotangent/{name}" for name in reversed(layers)),
        *(f"gradient/{name}" for name in problem.parameter_shapes),
    ]
    expect(list(stages) == expected, f"the stages {expected}", list(stages))
    wanted = ["loss", f"forward/{layers[0]}"]
    some = [name for name in expected if is_wanted(name, wanted)]
    found = list(trainer.observe(state, batch, wanted))
    expect(found == some, f"of {wanted} the stages {some}", found)
    nothing = dict(trainer.observe(state, batch, []))
    expect(not nothing, "no stage where none is wanted", list(nothing))


def of_the_step(subject: Subject) -> None:
    """The side run sees what the real path computes, and the cotangents are the loss' derivatives."""
    trainer, batch, problem = subject.trainer, subject.batch, subject.problem
    state, room = trainer.init(), subject.close
    stages = trainer.observe(state, batch, STAGES)
    same("the batch observed", {k: v for k, v in stages.items() if k.startswith("batch/")}, batch.stages())
    last = problem.layers[-1].name
    residual = 2 * (stages[f"forward/{last}"] - batch.y)
    if problem.loss.args["reduction"] == "mean":
        residual = residual / np.asarray(batch.y.size, residual.dtype)
    _, loss, grads = trainer.gradients(state, batch)
    real = {f"gradient/{name}": value for name, value in trainer.read_grads(grads).items()}
    expected = {"loss": np.asarray(loss), f"cotangent/{last}": residual, **real}
    near("the stages", {name: stages[name] for name in expected}, expected, room)


def own_injected(subject: Subject) -> None:
    """Its own stages injected change nothing."""
    trainer, batch = subject.trainer, subject.batch
    state = trainer.init()
    stages = trainer.observe(state, batch, STAGES)
    again = trainer.observe(state, batch, STAGES, _injectable(stages))
    near("the stages with its own injected", again, stages, subject.close)


def injected(subject: Subject) -> None:
    """What follows is computed from what is injected, as in the reference; the stage itself stays as it was computed."""
    trainer, batch, reference = subject.trainer, subject.batch, subject.reference
    state = trainer.init()
    own = trainer.observe(state, batch, STAGES)
    for name, value in _injectable(own).items():
        other = {name: (-0.5 * value).astype(value.dtype)}
        found = trainer.observe(state, batch, STAGES, other)
        expected = reference.observe(reference.init(), batch, STAGES, other)
        near(f"the stages with {name} injected", found, expected, subject.close)
        if name.startswith("forward/"):
            same(f"{name} itself, with {name} injected", {name: found[name]}, {name: own[name]})


def formulas(subject: Subject) -> None:
    """An injected output goes into the next layer and an injected cotangent into the one before: by the formulas."""
    trainer, batch, problem = subject.trainer, subject.batch, subject.problem
    w, rng = problem.initial_parameters()["1.dot/w"], np.random.default_rng(0)
    output = rng.standard_normal((12, 3)).astype(problem.dtype)
    cotangent = rng.standard_normal((12, 2)).astype(problem.dtype)
    replaced = {"forward/0.linear": output, "cotangent/1.dot": cotangent}
    found = trainer.observe(trainer.init(), batch, STAGES, replaced)
    expected = {
        "forward/1.dot": output @ w,
        "gradient/1.dot/w": output.T @ cotangent,
        "cotangent/0.linear": cotangent @ w.T,
        "gradient/0.linear/w": batch.x.T @ cotangent @ w.T,
    }
    near("what follows what was injected", {k: found[k] for k in expected}, expected, subject.close)


def not_clipped(subject: Subject) -> None:
    """Nothing is clipped where the problem does not clip."""
    trainer = subject.trainer
    state, _, grads = trainer.gradients(trainer.init(), subject.batch)
    found = trainer.clipped(state, grads)
    expect(not found, "nothing clipped", list(found))


def clipped(subject: Subject) -> None:
    """With plain descent the update is the learning rate times it; and it is asked for without a trace."""
    trainer, problem = subject.trainer, subject.problem
    state, limit = trainer.init(), float(problem.clip.args["limit"])
    rate = float(problem.optimizer.args["learning_rate"])
    for batch in itertools.islice(problem.batches(), 4):
        before = trainer.read(state)
        state, _, grads = trainer.gradients(state, batch)
        found = trainer.clipped(state, grads)
        state = trainer.apply(state, grads)
        after = trainer.read(state)
        due = after.step % problem.accumulation == 0
        expect(bool(found) == due, f"clipped gradients: {due}, as an update is due", list(found))
        for leaf, value in found.items():
            moved = before.parameters[leaf] - rate * value
            near(
                "the update by what was clipped",
                {leaf: after.parameters[leaf]},
                {leaf: moved},
                8 * subject.eps,
            )
        if found:
            largest = max(float(np.abs(value).max()) for value in found.values())
            norm = float(np.sqrt(sum(np.sum(np.square(value, dtype=np.float64)) for value in found.values())))
            size = {"norm": norm, "value": largest}[problem.clip.name]
            expect(abs(size / limit - 1) < 1e-5, f"a {problem.clip.name} of {limit}, the limit", size)


def _injectable(stages: Arrays) -> dict[str, np.ndarray]:
    return {name: value for name, value in stages.items() if name.startswith(("forward/", "cotangent/"))}
