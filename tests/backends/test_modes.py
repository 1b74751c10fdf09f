"""The other ways to run a framework: the same training as its default, or a refusal that says why."""

import numpy as np
import pytest

import backends
import harness
from backends.problem import Optimizer
from harness.problems import find
from harness.verdict import Verdict
from tests.conftest import square_problem

MODES = [name for name in backends.known() if ":" in name]
SLOW = ("torch:compile",)


def of(optimizer, **args):
    return square_problem(optimizer=Optimizer(optimizer, learning_rate=0.01, **args))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.sweep) if one in SLOW else one for one in MODES]
)
def test_a_mode_trains_what_its_framework_trains(name):
    problem = of("adam").replace(epochs=4)
    result = harness.verify(problem, backends=["numpy", name.partition(":")[0], name], dtypes=["float64"])
    assert result.verdict is Verdict.AGREE, [run.reason for run in result.runs]


@pytest.mark.parametrize("name", MODES)
def test_a_mode_that_trains_otherwise_differs(name, monkeypatch):
    """The comparison sees the mode's own run, not its framework's."""
    inner = backends.load(name)
    trained = find("seed")
    monkeypatch.setattr(inner, "trainer", lambda problem: type(inner)().trainer(halved(problem)))
    result = harness.verify(trained, backends=["numpy", inner], dtypes=["float64"])
    assert result.verdict is Verdict.DIFFER


def halved(problem):
    rate = problem.optimizer.args["learning_rate"]
    return problem.replace(optimizer=Optimizer("sgd", learning_rate=rate * (1 + 1e-9)))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_says_its_own_name_and_is_asked_for(name):
    assert backends.load(name).name == name
    assert name not in backends.entries()


@pytest.mark.parametrize(("mode", "optimizer"), [("torch:fused", "rprop"), ("torch:fused", "rmsprop")])
def test_what_torch_has_no_such_form_of_is_refused(mode, optimizer):
    refusal = backends.load(mode).supports(of(optimizer))
    assert refusal is not None
    assert f"fused {optimizer!r}" in refusal.reason


@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_the_optimizers_flag_is_set(flag):
    trainer = backends.load(f"torch:{flag}").trainer(of("adam"))
    assert all(group[flag] is True for group in trainer.init().optimizer.param_groups)


def test_step_mode_has_no_scan_and_eager_mode_compiles_nothing(seed):
    stepped, eager = (backends.load(f"jax:{mode}").trainer(seed) for mode in ("step", "eager"))
    assert "fit" not in stepped.capabilities
    assert "fit" not in eager.capabilities
    batch = next(iter(seed.batches()))
    losses = [trainer.step(trainer.init(), batch)[1] for trainer in (stepped, eager)]
    np.testing.assert_allclose(*losses, rtol=1e-14)


def test_the_model_is_compiled():
    trainer = backends.load("torch:compile").trainer(of("adam"))
    assert trainer.init().module._compiled_call_impl is not None
