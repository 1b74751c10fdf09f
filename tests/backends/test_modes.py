"""The other ways to run a framework: the same training as its default, or a refusal that says why."""

import numpy as np
import pytest
import torch

import lockstep
from lockstep import backends
from lockstep.backends.problem import Optimizer
from lockstep.backends.protocol import Recording
from lockstep.backends.pytorch import modes as torch_modes
from lockstep.harness.conformance.problems import PROBLEMS, ROUND, modes
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems import catalogue, find
from lockstep.harness.problems.families.seed import seed
from lockstep.harness.runs.free_run import StepByStep
from lockstep.harness.runs.stages import fields
from tests.conftest import available, square_problem

MODES = [name for name in backends.known() if ":" in name]
SLOW = ("torch:compile",)
KINDS = (
    "logistic",
    "adamw",
    "schedule-cosine",
    "clip-norm",
    "accumulated",
    "batch-norm",
    "convolution",
    "attention",
)
"""One of each kind that a mode may train otherwise."""


def of(optimizer, **args):
    return square_problem(optimizer=Optimizer(optimizer, learning_rate=0.01, **args))


EACH = [pytest.param(one, marks=pytest.mark.sweep) if one in SLOW else one for one in MODES]


@pytest.mark.parametrize("name", EACH)
def test_a_mode_trains_what_its_framework_trains(name):
    problem = of("adam").replace(epochs=4)
    chosen = ["numpy", name.partition(":")[0], available(name)]
    result = lockstep.verify(problem, backends=chosen, dtypes=["float64"])
    assert result.verdict is Verdict.AGREE, [run.reason for run in result.runs]


@pytest.mark.parametrize("name", EACH)
def test_a_mode_that_trains_otherwise_differs(name, monkeypatch):
    """The comparison sees the mode's own run, not its framework's."""
    inner = available(name)
    trained = find("seed")
    monkeypatch.setattr(inner, "trainer", lambda problem: type(inner)().trainer(halved(problem)))
    result = lockstep.verify(trained, backends=["numpy", inner], dtypes=["float64"])
    assert result.verdict is Verdict.DIFFER


@pytest.mark.sweep
@pytest.mark.parametrize("problem", KINDS)
@pytest.mark.parametrize("name", MODES)
@pytest.mark.usefixtures("full_precision")
def test_a_mode_agrees_on_every_kind_of_problem(name, problem):
    backend, trained = available(name), find(problem)
    if refusal := backend.supports(trained):
        pytest.skip(refusal.reason)
    result = lockstep.verify(trained, backends=["numpy", backend], epochs=min(trained.epochs, 3))
    assert result.verdict is Verdict.AGREE, result.census()


@pytest.mark.sweep
@pytest.mark.parametrize("name", MODES)
@pytest.mark.usefixtures("full_precision")
def test_a_mode_is_within_two_ulps_of_the_truth_in_every_loss(name):
    """As the default backends are (tests/harness/test_certified.py), but that one operation at a time a loss of thirty
    squares is summed in another order, in float32 1.5 ULPs from the truth."""
    backend = available(name)
    for case in lockstep.verify("seed", backends=["numpy", backend], certify=True).cases:
        errors = case.certified.errors[name]
        assert 0 < errors.losses.max() < 2
        assert errors.parameters["0.linear/w"].max() < 8


@pytest.mark.parametrize("name", EACH)
def test_a_mode_that_trains_otherwise_is_far_from_the_truth(name, monkeypatch):
    inner = available(name)
    monkeypatch.setattr(inner, "trainer", lambda problem: type(inner)().trainer(halved(problem)))
    (case,) = lockstep.verify("seed", backends=["numpy", inner], dtypes=["float64"], certify=True).cases
    assert case.certified.errors[name].losses.max() > 1000


@pytest.mark.parametrize("problem", ROUND)
@pytest.mark.parametrize("name", ["torch", *(one for one in EACH if "torch" in str(one))])
def test_torch_trains_the_same_bits_in_one_call_as_step_by_step(name, problem):
    """The same kernels in the same order; a scan of JAX is another program than its step, and NumPy's fit another form."""
    trainer, batches = available(name).trainer(PROBLEMS[problem]()), PROBLEMS[problem]().batches()
    whole, stepped = (
        fit(trainer.init(), batches, Recording(parameters=True))
        for fit in (trainer.fit, StepByStep(trainer).fit)
    )
    for one, other in (
        ({"losses": whole.losses}, {"losses": stepped.losses}),
        (fields(whole.final), fields(stepped.final)),
        (whole.parameters, stepped.parameters),
    ):
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], strict=True)


def halved(problem):
    rate = problem.optimizer.args["learning_rate"]
    return problem.replace(optimizer=Optimizer("sgd", learning_rate=rate * (1 + 1e-9)))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_says_its_own_name_and_is_asked_for(name):
    assert name not in backends.entries()
    assert available(name).name == name


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


def compiled_calls(name, problem):
    """How many programs of the compiler a step ran."""
    trainer = backends.load(name).trainer(problem)
    state, batch = trainer.init(), next(iter(problem.batches()))
    trainer.step(state, batch)  # compiles
    with torch.profiler.profile() as profile:
        trainer.step(state, batch)
    return sum(event.name.startswith("Torch-Compiled Region") for event in profile.events())


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(seed, id="one layer of torch's own"),
        pytest.param(modes, id="dropout and batch norm", marks=pytest.mark.sweep),
    ],
)
def test_the_model_is_compiled_as_one_program(build):
    assert compiled_calls("torch:compile", build()) == 1
    assert compiled_calls("torch", build()) == 0


@pytest.mark.sweep
@pytest.mark.parametrize("name", catalogue())
def test_every_problem_of_the_catalogue_is_compiled_as_one_program(name):
    problem = find(name)
    refusal = backends.load("torch:compile").supports(problem)
    if refusal is not None:
        pytest.skip(refusal.reason)
    assert compiled_calls("torch:compile", problem) == 1


@pytest.mark.sweep
def test_what_was_compiled_before_changes_nothing():
    """Left to itself torch compiles a second size for all sizes, and later models with it."""
    problem = modes()
    assert len({len(batch.x) for batch in problem.batches()}) == 2
    torch.compiler.reset()
    first, second = (step_by_step("torch:compile", problem) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, strict=True)


def step_by_step(name, problem):
    trainer = backends.load(name).trainer(problem)
    state = trainer.init()
    for batch in problem.batches():
        state, _ = trainer.step(state, batch)
    return trainer.read(state).parameters


@pytest.mark.sweep
def test_more_models_are_compiled_than_torch_keeps_of_one_function():
    with torch._dynamo.config.patch(accumulated_recompile_limit=2):
        for _ in range(4):
            assert compiled_calls("torch:compile", seed()) == 1


@pytest.mark.parametrize(("takes", "limit"), [(True, 3), (False, torch_modes.SIZES)])
def test_a_torch_that_takes_no_limit_has_that_of_the_process(monkeypatch, takes, limit):
    """An older torch.compile has no argument for it; the process' own limit stands again after each call."""
    limits = []

    def compiled(module, x):
        limits.append(torch._dynamo.config.recompile_limit)
        return module(x)

    monkeypatch.setattr(torch_modes, "TAKES_LIMIT", takes)
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled)
    with torch._dynamo.config.patch(recompile_limit=3):
        step_by_step("torch:compile", seed())
        assert torch._dynamo.config.recompile_limit == 3
    assert set(limits) == {limit}
