"""Averaged parameters: against torch's AveragedModel and optax called directly, and when they move."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lockstep.backends.errors import LockstepError
from lockstep.backends.ops import AVERAGES
from lockstep.backends.problem import Average, Batching
from lockstep.backends.protocol import Recording
from lockstep.harness.problems import catalogue, find
from lockstep.harness.runs.free_run import StepByStep
from tests.conftest import advance, square_problem

EMA, DEBIASED = (Average("ema", decay=0.9, debias=debias) for debias in (False, True))


def trained(backend, problem):
    trainer = backend.trainer(problem)
    trace = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    return problem.average.reported(trace.final.average, problem.steps), trace.parameters


def assert_near(left, right, eps):
    assert list(left) == sorted(right)
    for name in left:
        room = 8 * eps * np.abs(right[name]).max()
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=room, err_msg=name)


def test_every_average_is_in_the_catalogue():
    assert {find(name).average.name for name in catalogue()} == set(AVERAGES)


def test_plain_torch_averages_alike(backend, dtype):
    problem = square_problem(average=EMA, epochs=30, dtype=dtype)
    average, history = trained(backend, problem)
    model = torch.nn.ParameterDict({name.replace(".", "_"): value[0] for name, value in _tensors(history)})
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for epoch in range(1, 31):
        with torch.no_grad():
            for name, value in _tensors(history):
                model[name.replace(".", "_")].copy_(value[epoch])
        averaged.update_parameters(model)
    found = {name: averaged.module[name.replace(".", "_")].detach().numpy() for name in history}
    assert_near(average, found, float(np.finfo(dtype).eps))


def _tensors(history):
    return [(name, torch.tensor(value)) for name, value in history.items()]


def test_plain_optax_debiases_alike(backend):
    average, history = trained(backend, square_problem(average=DEBIASED, epochs=30))
    with jax.enable_x64(True):
        transform = optax.ema(0.9, debias=True)
        state = transform.init({name: jnp.asarray(value[0]) for name, value in history.items()})
        for epoch in range(1, 31):
            found, state = transform.update({name: value[epoch] for name, value in history.items()}, state)
    assert_near(average, found, float(np.finfo(np.float64).eps))


def test_plain_optax_increments_alike(backend):
    average, history = trained(backend, square_problem(average=EMA, epochs=30))
    with jax.enable_x64(True):
        found = {name: jnp.asarray(value[1]) for name, value in history.items()}
        for epoch in range(2, 31):
            found = optax.incremental_update(
                {name: value[epoch] for name, value in history.items()}, found, 0.1
            )
    assert_near(average, found, float(np.finfo(np.float64).eps))


@pytest.mark.parametrize("average", [EMA, DEBIASED], ids=["copied", "debiased"])
def test_where_it_starts(backend, average):
    """Before an update: the parameters, or zeros. After one update both report the updated parameters."""
    problem = square_problem(average=average)
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    start = trainer.read(trainer.init())
    for name, value in start.average.items():
        np.testing.assert_array_equal(value, 0 if average is DEBIASED else start.parameters[name])
    after = trainer.read(advance(trainer, trainer.init(), batch, 1))
    for name, value in average.reported(after.average, 1).items():
        np.testing.assert_allclose(value, after.parameters[name], rtol=1e-15)
    assert average.reported(start.average, 0) == dict(start.average)


def test_it_moves_with_updates_not_with_batches(backend):
    problem = square_problem(average=EMA, batching=Batching(size=4), accumulation=3)
    trainer = backend.trainer(problem)
    state, averages = trainer.init(), []
    for batch in problem.batches():
        state, _ = trainer.step(state, batch)
        averages.append(trainer.read(state).average["0.linear/w"])
    moved = [bool((old != new).any()) for old, new in itertools.pairwise(averages)]
    assert moved == [count % 3 == 0 for count in range(2, 19)]


def test_training_does_not_see_it(backend):
    """To the bit, step by step; `fit` may sum otherwise where nothing is averaged."""
    problem = square_problem(epochs=20)
    trainers = [backend.trainer(one) for one in (problem, problem.replace(average=EMA))]
    ends = [
        StepByStep(one).fit(one.init(), problem.batches(), Recording()).final.parameters for one in trainers
    ]
    for name in ends[0]:
        np.testing.assert_array_equal(ends[0][name], ends[1][name])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Average("ema"), "lacks 'decay'"),
        (lambda: Average("ema", decay=1.0), "decay is out of range\n.*1.0\n.*a float >= 0 and < 1"),
        (lambda: Average("ema", decay=-0.1), "decay is out of range"),
        (lambda: Average("ema", decay=0.9, debias=1), "debias has the wrong type"),
        (lambda: Average("swa"), "unknown average"),
        (lambda: square_problem(average="ema"), r"the average has the wrong type.*\n.*\n.*Average\(name"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(LockstepError, match=words):
        make()
