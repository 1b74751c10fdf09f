"""Every schedule: its factors against torch and optax called directly, and its place in a snapshot."""

import jax
import numpy as np
import optax
import pytest
import torch

from lockstep.backends.errors import ProblemError
from lockstep.backends.jax_haiku.schedules import scheduled
from lockstep.backends.numpy_vjp.schedules import SCHEDULES
from lockstep.backends.ops import SCHEDULES as RULES
from lockstep.backends.problem import Optimizer, Schedule
from lockstep.backends.pytorch.schedules import SCHEDULES as TORCH
from lockstep.harness.problems import find
from lockstep.harness.problems.families.schedules import SCHEDULES as CASES
from tests.conftest import advance

STEPS = range(100)


def factors(name):
    schedule = Schedule(name, **CASES[name][0])
    return [SCHEDULES[name](schedule.args)(t) for t in STEPS]


def test_every_schedule_is_in_the_catalogue():
    assert {"constant", *CASES} == set(RULES)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("step", lambda one: torch.optim.lr_scheduler.StepLR(one, 30, 0.5)),
        (
            "piecewise",
            lambda one: torch.optim.lr_scheduler.SequentialLR(
                one,
                [
                    torch.optim.lr_scheduler.MultiStepLR(one, [20, 50], 0.5),
                    torch.optim.lr_scheduler.ConstantLR(one, 0.025, total_iters=99),
                ],
                [51],
            ),
        ),
        ("exponential", lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.97)),
        ("polynomial", lambda one: torch.optim.lr_scheduler.PolynomialLR(one, 80, 2.0)),
        ("cosine", lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, 80, eta_min=0.1)),
    ],
)
def test_plain_torch_has_these_rates(name, make):
    """Up to T for the cosine: there torch's begins to rise."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in STEPS:
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    end = 81 if name == "cosine" else None
    np.testing.assert_allclose(factors(name)[:end], rates[:end], rtol=0, atol=1e-14)
    assert name != "cosine" or rates[99] > 0.15


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("step", optax.exponential_decay(1.0, 30, 0.5, staircase=True)),
        ("piecewise", optax.piecewise_constant_schedule(1.0, {20: 0.5, 50: 0.5, 51: 0.1})),
        ("exponential", optax.exponential_decay(1.0, 1, 0.97)),
        ("polynomial", optax.polynomial_schedule(1.0, 0.0, 2.0, 80)),
        ("cosine", optax.cosine_decay_schedule(1.0, 80, 0.1)),
        ("warmup_cosine", optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 80, 0.1)),
    ],
)
def test_plain_optax_has_these_rates(name, schedule):
    with jax.enable_x64(True):
        np.testing.assert_allclose(factors(name), [float(schedule(t)) for t in STEPS], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_a_traced_count_keeps_double_precision(name):
    args = Schedule(name, **CASES[name][0]).args
    with jax.enable_x64(True):
        rate = jax.jit(jax.vmap(scheduled(1.0, name, args)))(np.arange(100, dtype=np.int32))
        np.testing.assert_allclose(factors(name), rate, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_a_snapshot_continues_the_schedule(backend, name):
    problem = find(f"schedule-{name}")
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    state = advance(trainer, trainer.init(), batch, 35)
    snapshot = trainer.read(state)
    straight = trainer.read(advance(trainer, state, batch, 3)).parameters
    resumed = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 3)).parameters
    for key in straight:
        np.testing.assert_array_equal(straight[key], resumed[key])


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "rmsprop", "rprop", "adafactor"])
def test_a_snapshot_continues_all_that_counts_steps(backend, optimizer):
    """Optax counts in each part of a chain: the moments, the rate, the decay."""
    args = {"momentum": 0.9, "rate_in_trace": True} if optimizer == "rmsprop" else {}
    decay = {} if optimizer == "rprop" else {"weight_decay": 0.1}
    made = Optimizer(optimizer, preset="torch", **decay, **args)
    problem = find("schedule-cosine").replace(optimizer=made)
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    state = advance(trainer, trainer.init(), batch, 5)
    snapshot = trainer.read(state)
    straight = trainer.read(advance(trainer, state, batch, 3)).parameters
    resumed = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 3)).parameters
    for key in straight:
        np.testing.assert_array_equal(straight[key], resumed[key])


def test_what_is_refused():
    with pytest.raises(ProblemError, match="the warm-up must be shorter"):
        Schedule("warmup_cosine", warmup=80, steps=80)
    with pytest.raises(ProblemError, match="the boundaries must increase"):
        Schedule("piecewise", boundaries=[3, 3], factors=[0.5, 0.5])
    with pytest.raises(ProblemError, match="as many factors as boundaries"):
        Schedule("piecewise", boundaries=[3, 4], factors=[0.5])
    with pytest.raises(ProblemError, match=r"factors\[1\] is out of range\n.*0.0"):
        Schedule("piecewise", boundaries=[3, 4], factors=[0.5, 0.0])
    for wrong in (3, [], "34", {3: 4}):
        with pytest.raises(ProblemError, match="boundaries is not a list of values"):
            Schedule("piecewise", boundaries=wrong, factors=[0.5])
    with pytest.raises(ProblemError, match=r"boundaries\[0\] has the wrong type"):
        Schedule("piecewise", boundaries=[True], factors=[0.5])
    with pytest.raises(ProblemError, match="schedule 'step': factor is out of range"):
        Schedule("step", steps=1, factor=0.0)
    with pytest.raises(ProblemError, match="the schedule has the wrong type"):
        find("seed").replace(schedule=Optimizer("sgd", learning_rate=1.0))


def test_one_factor_for_all_boundaries_is_torchs_own_scheduler():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    args = Schedule("piecewise", boundaries=[20, 50], factors=[0.1, 0.1]).args
    scheduler, rates = TORCH["piecewise"](optimizer, args), []
    assert isinstance(scheduler, torch.optim.lr_scheduler.MultiStepLR)
    for _ in STEPS:
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose([SCHEDULES["piecewise"](args)(t) for t in STEPS], rates, rtol=1e-15)
