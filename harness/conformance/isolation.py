"""What training must leave alone: its inputs, what it handed out, other states, other threads, random numbers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lockstep.backends.problem import DTYPES, Array, Arrays, Batch, Problem
from lockstep.backends.protocol import LOSSES_ONLY, STAGES, Recording, Snapshot, State, Trainer
from lockstep.harness.conformance.check import expect
from lockstep.harness.conformance.equality import same, same_state
from lockstep.harness.conformance.subject import Subject, advance
from lockstep.harness.runs.free_run import fit_of
from lockstep.harness.runs.stages import fields


def inputs(subject: Subject) -> None:
    """The problem, the batch and a snapshot are the same after training as before."""
    problem, trainer, batch = subject.problem, subject.trainer, subject.batch
    state = trainer.init()
    snapshot = trainer.read(state)
    kept = copy.deepcopy((batch, snapshot))
    before = _contents(problem)
    state = advance(trainer, state, batch, 3)
    state = advance(trainer, trainer.write(state, snapshot), batch, 3)
    if "stages" in trainer.capabilities:
        trainer.observe(state, batch, STAGES)
    trainer.predict(state, batch.x)
    fit_of(trainer)(trainer.write(state, snapshot), problem.batches(), LOSSES_ONLY)
    same("the batch after training", batch.stages(), kept[0].stages())
    same_state("a snapshot after training from it", snapshot, kept[1])
    same("the problem after training", _contents(problem)[0], before[0])
    expect(_contents(problem)[1] == before[1], f"the problem unchanged: {before[1]}", _contents(problem)[1])


def _contents(problem: Problem) -> tuple[dict[str, Array], str]:
    """All arrays of a problem, copied, and all else as text."""
    arrays = {"x": problem.x.copy(), "y": problem.y.copy(), **problem.initial_parameters()}
    rest = (
        problem.epochs,
        problem.dtype,
        problem.batching,
        problem.accumulation,
        problem.model,
        problem.parts,
    )
    return arrays, repr(rest)


def taken(subject: Subject) -> None:
    """Changing an array after it was handed in changes nothing inside."""
    trainer, batch = subject.trainer, subject.batch
    snapshot = trainer.read(advance(trainer, trainer.init(), batch, 2))
    expected, state = copy.deepcopy(snapshot), trainer.write(trainer.init(), snapshot)
    grads = trainer.write_grads(snapshot.parameters)
    _spoil(fields(snapshot))
    same_state("a state whose snapshot was changed afterwards", trainer.read(state), expected)
    same("gradients whose arrays were changed afterwards", trainer.read_grads(grads), expected.parameters)
    plain = trainer.read(advance(trainer, trainer.write(trainer.init(), expected), subject.batch, 1))
    state, _ = trainer.step(state, batch)
    _spoil(batch.stages())
    same_state("a step whose batch was changed afterwards", trainer.read(state), plain)


def handed_out(subject: Subject) -> None:
    """Changing an array that was handed out changes nothing inside."""
    trainer, batch = subject.trainer, subject.batch
    state, _, grads = trainer.gradients(trainer.init(), batch)
    for what, read in _readings(trainer, state, grads, batch).items():
        expected = copy.deepcopy(dict(read()))
        _spoil(read())
        same(f"{what}, read again after what was read was changed", read(), expected)
    if "fit" in trainer.capabilities:
        _recorded_apart(subject)


def _readings(trainer: Trainer, state: State, grads: Any, batch: Batch) -> dict[str, Callable[[], Arrays]]:
    read: dict[str, Callable[[], Arrays]] = {
        "the state": lambda: fields(trainer.read(state)),
        "the gradients": lambda: trainer.read_grads(grads),
        "what was given": trainer.given,
        "the prediction": lambda: {"prediction": trainer.predict(state, batch.x)},
    }
    if "stages" in trainer.capabilities:
        read["the stages"] = lambda: {
            name: value
            for name, value in trainer.observe(state, batch, STAGES).items()
            if not name.startswith("batch/")  # these are the caller's
        }
    return read


def _recorded_apart(subject: Subject) -> None:
    """The last recorded parameters and the final ones are not one array."""
    trace = subject.trainer.fit(subject.trainer.init(), subject.problem.batches(), Recording(parameters=True))
    expected = copy.deepcopy(dict(trace.final.parameters))
    _spoil(trace.parameters or {})
    same("the final parameters after the recorded ones were changed", trace.final.parameters, expected)


def _spoil(arrays: Arrays) -> None:
    """Change every element in place, where the array lets itself be changed."""
    for value in arrays.values():
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value += 1


def observing(subject: Subject) -> None:
    """Reading, predicting and observing consume nothing and move no bit of what is trained afterwards."""
    trainer, batch = subject.trainer, subject.batch
    watched, unwatched = trainer.init(), trainer.init()
    for _ in range(3):
        trainer.read(watched)
        trainer.predict(watched, batch.x)
        if "stages" in trainer.capabilities:
            trainer.observe(watched, batch, STAGES)
        watched, _ = trainer.step(watched, batch)
        unwatched, _ = trainer.step(unwatched, batch)
    same_state("a run that was watched", trainer.read(watched), trainer.read(unwatched))


def states(subject: Subject) -> None:
    """Two states of one trainer, stepped in turn, train what each trains alone."""
    trainer, batch = subject.trainer, subject.batch
    ahead = trainer.read(advance(trainer, trainer.init(), batch, 3))
    alone = trainer.read(advance(trainer, trainer.write(trainer.init(), ahead), batch, 3))
    first, second = trainer.init(), trainer.write(trainer.init(), ahead)
    for _ in range(3):
        first, _ = trainer.step(first, batch)
        second, _ = trainer.step(second, batch)
    same_state("a state stepped in turn with one 3 steps ahead", trainer.read(first), ahead)
    same_state("a state stepped in turn with one 3 steps behind", trainer.read(second), alone)


def threads(subject: Subject) -> None:
    """A run in another thread, beside one in the other dtype, is the run alone, to the bit."""
    problem = subject.problem
    (dtype,) = set(DTYPES) - {problem.dtype}
    other = problem.replace(dtype=dtype)
    beside = problem if subject.backend.supports(other) else other
    alone = _run(subject.trainer, problem)
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(_run, subject.fresh(), problem)
        theirs = pool.submit(_run, subject.backend.trainer(beside), beside)
        same_state("a run in a thread, beside another", ours.result(), alone)
        theirs.result()  # raises what it raised


def _run(trainer: Trainer, problem: Problem) -> Snapshot:
    """The state after two epochs, step by step, as a thread of its own would train them."""
    state = trainer.init()
    for batch in problem.replace(epochs=2).batches():
        state, _ = trainer.step(state, batch)
    return trainer.read(state)


def random_states(subject: Subject) -> None:
    """A user's random numbers come as if nothing had been trained."""
    before = {name: read(sys.modules[name]) for name, read in _GENERATORS.items() if name in sys.modules}
    trainer = subject.fresh()
    state = trainer.init()
    fit_of(trainer)(state, subject.problem.batches(), LOSSES_ONLY)
    for name, state in before.items():
        expect(
            _GENERATORS[name](sys.modules[name]) == state, f"the random state of {name} untouched", "moved"
        )


_GENERATORS: Mapping[str, Callable[[Any], str]] = {
    "random": lambda module: repr(module.getstate()),
    "numpy": lambda module: repr([np.asarray(one).tolist() for one in module.random.get_state()[1:]]),
    "torch": lambda module: repr(module.get_rng_state().tolist()),
}
"""Modules with a random state that all code in a process shares, and how it is read; none is imported for it."""
