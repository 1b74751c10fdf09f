"""The free run: what it records, and a trainer without `fit`."""

import numpy as np

from lockstep import backends
from lockstep.backends.protocol import Recording, Unsupported
from lockstep.harness.core.compare import expected_inputs
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.runs.free_run import free_run


class WithoutFit:
    """A backend whose trainers can only step."""

    name = "steps"

    def __init__(self):
        self._inner = backends.load("numpy")

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def trainer(self, problem):
        trainer = self._inner.trainer(problem)
        trainer.capabilities = frozenset({"stages"})
        del_fit = lambda *arguments: 1 / 0  # noqa: E731
        trainer.fit = del_fit
        return trainer


class Refuses(WithoutFit):
    def supports(self, problem):
        return Unsupported("not today")


def test_a_run_records_inputs_environment_and_time(backend, seed):
    run = free_run(backend, seed)
    assert run.verdict is Verdict.AGREE
    assert run.given == expected_inputs(seed)
    assert run.environment == backend.environment()
    assert run.seconds > 0


def test_without_fit_the_steps_are_the_run(seed):
    """Epoch by epoch what the trainer's own steps give, to the bit."""
    stepped = free_run(WithoutFit(), seed, Recording(parameters=True))
    trainer = backends.load("numpy").trainer(seed)
    state = trainer.init()
    losses = []
    for batch in seed.batches():
        state, loss = trainer.step(state, batch)
        losses.append(loss)
    assert stepped.verdict is Verdict.AGREE
    np.testing.assert_array_equal(stepped.trace.losses, losses)
    for name, value in trainer.read(state).parameters.items():
        np.testing.assert_array_equal(stepped.trace.parameters[name][-1], value, strict=True)


def test_a_refusal_is_skipped_with_its_reason(seed):
    run = free_run(Refuses(), seed)
    assert (run.verdict, run.reason) == (Verdict.SKIPPED, "not today")
