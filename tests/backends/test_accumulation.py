"""Accumulated gradients: against torch's loop and optax.MultiSteps called directly, and across backends."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from lockstep import backends
from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Batching
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.conformance.problems import surrounded
from lockstep.harness.problems import find
from tests.conftest import BACKENDS, square_problem

PROBLEM = find("accumulated")


def trained(backend, problem=PROBLEM):
    trainer = backend.trainer(problem)
    return trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY)


def assert_near(left, right, room=1e-14):
    for name in right:
        largest = np.abs(right[name]).max()
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=room * largest, err_msg=name)


def torchs():
    """The catalogue's problem as torch's users write it: gradients of loss/3 add up in .grad."""
    tensors = {name: torch.tensor(value) for name, value in PROBLEM.initial_parameters().items()}
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    with torch.no_grad():
        for index in (0, 2):
            model[index].weight.copy_(tensors[f"{index}.linear/w"].T)
            model[index].bias.copy_(tensors[f"{index}.linear/b"])
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    for count, batch in enumerate(PROBLEM.batches(), start=1):
        loss = torch.nn.functional.mse_loss(model(torch.tensor(batch.x)), torch.tensor(batch.y))
        (loss / 3).backward()
        if count % 3 == 0:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    found = {}
    for index in (0, 2):
        found[f"{index}.linear/w"] = model[index].weight.detach().numpy().T
        found[f"{index}.linear/b"] = model[index].bias.detach().numpy()
    return found


def optaxs(dtype):
    """The same with MultiSteps as it is: a running mean."""

    def loss_of(params, x, y):
        hidden = jnp.tanh(x @ params["0.linear/w"] + params["0.linear/b"])
        return jnp.mean((hidden @ params["2.linear/w"] + params["2.linear/b"] - y) ** 2)

    with jax.enable_x64(True):
        params = {name: jnp.asarray(value) for name, value in PROBLEM.initial_parameters().items()}
        halved = optax.exponential_decay(1e-2, 10, 0.5, staircase=True)
        sgd = optax.sgd(lambda count: halved(count.astype(float)), 0.9)  # of an int32 count: a float32 rate
        optimizer = optax.MultiSteps(sgd, 3, accumulator_dtype=dtype)
        state = optimizer.init(params)

        @jax.jit
        def step(params, state, x, y):
            updates, state = optimizer.update(jax.grad(loss_of)(params, x, y), state, params)
            return optax.apply_updates(params, updates), state

        for batch in PROBLEM.batches():
            params, state = step(params, state, batch.x, batch.y)
        return {name: np.asarray(value) for name, value in params.items()}


def test_plain_torch_and_plain_optax_train_these_parameters(backend):
    final = trained(backend).final.parameters
    assert_near(final, torchs())
    assert_near(final, optaxs(jnp.float64))


def test_optax_default_accumulator_is_single_precision():
    """Why MultiSteps is told its dtype."""
    exact, default = optaxs(jnp.float64), optaxs(jnp.float32)
    assert max(np.abs(exact[name] - default[name]).max() for name in exact) > 1e-11


def test_the_accumulator_is_the_sum_of_own_gradients_over_their_number(backend, dtype):
    problem = PROBLEM.replace(dtype=dtype)
    trainer = backend.trainer(problem)
    state, expected = trainer.init(), {}
    for batch in itertools.islice(problem.batches(), 2):
        state, _, grads = trainer.gradients(state, batch)
        for name, grad in trainer.read_grads(grads).items():
            expected[name] = expected.get(name, 0) + grad / 3
        state, _ = trainer.step(state, batch)
    snapshot = trainer.read(state)
    assert_near(snapshot.accumulator, expected, 8 * float(np.finfo(dtype).eps))
    np.testing.assert_equal(snapshot.parameters, problem.initial_parameters())
    state, _ = trainer.step(state, batch)
    after = trainer.read(state)
    assert not any(value.any() for value in after.accumulator.values())
    assert all((after.parameters[name] != snapshot.parameters[name]).any() for name in expected)


def test_equal_batches_accumulated_are_one_batch(backend):
    problem = square_problem(epochs=20)
    parts = problem.replace(batching=Batching(size=3), accumulation=4)
    assert_near(trained(backend, parts).final.parameters, trained(backend, problem).final.parameters)


def test_a_remainder_updates_nothing_and_is_kept(backend):
    trainer = backend.trainer(PROBLEM)
    state = trainer.init()
    for batch in itertools.islice(PROBLEM.batches(), 99):
        state, _ = trainer.step(state, batch)
    before, final = trainer.read(state).parameters, trained(backend).final
    assert final.step == 100
    assert any(value.any() for value in final.accumulator.values())
    assert_near(final.parameters, before)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(BACKENDS, 2)))
@pytest.mark.parametrize("seen", [0, 6, 8])
def test_another_backend_continues_within_an_update(first, second, seen):
    """Adam's counts, the accumulator and the average go over: at 6 of 18 batches, two of four are accumulated."""
    problem = surrounded()
    batches = list(problem.batches())
    one, other = (backends.load(name).trainer(problem) for name in (first, second))
    state, straight = one.init(), other.init()
    for batch in batches[:seen]:
        state, _ = one.step(state, batch)
        straight, _ = other.step(straight, batch)
    state = other.write(other.init(), one.read(state))
    for batch in batches[seen:]:
        state, _ = other.step(state, batch)
        straight, _ = other.step(straight, batch)
    left, right = other.read(state), other.read(straight)
    assert left.step == right.step == 18
    for kind in ("parameters", "optimizer", "accumulator", "average"):
        assert_near(getattr(left, kind), getattr(right, kind))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0, "accumulation is not valid\n.*0\n.*an int >= 1"),
        (-2, "accumulation is not valid"),
        (2.0, "accumulation is not valid"),
        (True, "accumulation is not valid"),
        (7, "nothing would be updated\n.*7 batches an update, 6 batches in all"),
    ],
)
def test_what_is_refused(given, words):
    with pytest.raises(ProblemError, match=words):
        square_problem(accumulation=given)
