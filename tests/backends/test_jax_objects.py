"""Flax' TrainState and Linen module, an NNX module with its optimizer and an Equinox module train as the function that calls them by hand."""

from typing import Any

import equinox
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from lockstep.backends import jax_haiku
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Batch
from tests.harness.adopted import models

KEY, RATE = jax.random.PRNGKey(0), 0.1
BATCHES = [Batch(*(one.astype("float32") for one in each), {}) for each in models.batches(3)]
X = BATCHES[0].x


def run(side, given_masks=False):
    state, losses = side.init(), []
    for at, batch in enumerate(BATCHES):
        if given_masks:
            rng = np.random.default_rng(at)
            masks = {
                str(number): rng.random(one.shape) >= one.rate for number, one in enumerate(side.draws(batch))
            }
            assert masks
            batch = batch._replace(masks=masks)
        state, loss = side.step(state, batch)
        losses.append(np.asarray(loss))
    return np.stack(losses), side.read(state)


def assert_same(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    for kind in ("parameters", "buffers"):
        ours, theirs = getattr(one[1], kind), getattr(other[1], kind)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_allclose(value, theirs[name], rtol=1e-6)


class Plain(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(linen.tanh(linen.Dense(4)(x)))


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        return linen.Dense(1)(linen.Dropout(0.5, deterministic=not train)(x))


class WithStatistics(TrainState):
    batch_stats: Any


@pytest.mark.parametrize("whole", [False, True])
def test_a_train_state_is_a_model_its_parameters_and_its_optimizer(whole):
    """Some hold the parameters alone, some all that `init` gave."""
    model = Plain()
    variables = model.init(KEY, X)
    params = variables if whole else variables["params"]
    held = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(RATE))
    by_hand = jax_haiku.adopt(
        lambda p, x: model.apply(p if whole else {"params": p}, x), models.squared, optax.adam(RATE), params
    )
    assert_same(run(jax_haiku.adopt(held, models.squared)), run(by_hand))
    module = jax_haiku.adopt(model, models.squared, optax.adam(RATE), params)
    assert_same(run(module), run(jax_haiku.adopt(held.replace(params=variables["params"]), models.squared)))
    other = jax_haiku.adopt(held, models.squared, optax.sgd(RATE))
    assert not np.allclose(run(other)[0], run(by_hand)[0])


def test_a_train_state_with_batch_statistics_and_dropout():
    model = Normalised()
    variables = model.init({"params": KEY, "dropout": KEY}, X)
    held = WithStatistics.create(apply_fn=model.apply, tx=optax.sgd(RATE), **variables)

    def apply(params, state, x, key):
        variables, rngs = {"params": params, "batch_stats": state["batch_stats"]}, {"dropout": key}
        return model.apply(variables, x, rngs=rngs, mutable=["batch_stats"])

    settings = {"state": {"batch_stats": variables["batch_stats"]}, "key": KEY}
    by_hand = jax_haiku.adopt(apply, models.squared, optax.sgd(RATE), variables["params"], **settings)
    side = jax_haiku.adopt(held, models.squared, key=KEY)
    module = jax_haiku.adopt(model, models.squared, optax.sgd(RATE), variables, key=KEY)
    for one in (side, module):
        assert_same(run(one), run(by_hand))
        assert_same(run(one, given_masks=True), run(by_hand, given_masks=True))
    assert set(run(side)[1].buffers) == {f"batch_stats/BatchNorm_0/{one}" for one in ("mean", "var")}


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.drop, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(self.norm(self.first(x))))


def test_an_nnx_module_and_its_optimizer():
    module = Network(nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.state(module, nnx.Param))
    graph, params, statistics = nnx.split(module, nnx.Param, ...)

    def apply(params, state, x):
        merged = nnx.merge(graph, params, state)
        return merged(x), nnx.split(merged, nnx.Param, ...)[2]

    by_hand = jax_haiku.adopt(apply, models.squared, optax.adam(RATE), params, state=statistics)
    held = nnx.Optimizer(module, optax.adam(RATE), wrt=nnx.Param)
    for optimizer in (held, optax.adam(RATE)):
        side = jax_haiku.adopt(module, models.squared, optimizer)
        assert_same(run(side), run(by_hand))
    assert_same(run(side, given_masks=True), run(by_hand, given_masks=True))
    assert run(side)[1].optimizer["model state/drop/rngs/count"] == len(BATCHES)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(module, nnx.Param))


def test_only_what_an_nnx_optimizer_trains_is_a_parameter():
    class Frozen(nnx.Param):
        pass

    module = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    module.bias = Frozen(jnp.ones(1))
    kernel = nnx.All(nnx.Param, nnx.Not(Frozen))
    held = nnx.Optimizer(module, optax.sgd(RATE), wrt=kernel)
    _, end = run(jax_haiku.adopt(module, models.squared, held))
    assert set(end.parameters) == {"kernel"}
    np.testing.assert_array_equal(end.buffers["bias"], 1)


class Rowwise(equinox.Module):
    first: equinox.nn.Linear
    drop: equinox.nn.Dropout
    last: equinox.nn.Linear

    def __init__(self, key):
        self.first = equinox.nn.Linear(4, 4, key=key)
        self.drop, self.last = equinox.nn.Dropout(0.5), equinox.nn.Linear(4, 1, key=key)

    def __call__(self, x, key=None):
        return self.last(self.drop(jnp.tanh(self.first(x)), key=key, inference=key is None))


@pytest.mark.parametrize("key", [None, KEY])
def test_an_equinox_module_is_called_row_by_row(key):
    module = Rowwise(KEY)
    params, rest = equinox.partition(module, equinox.is_inexact_array)

    def apply(params, x, *key):
        keys = [jax.random.split(one, len(x)) for one in key]
        return jax.vmap(equinox.combine(params, rest))(x, *keys)

    by_hand = jax_haiku.adopt(apply, models.squared, optax.adam(RATE), params, key=key)
    side = jax_haiku.adopt(module, models.squared, optax.adam(RATE), key=key)
    assert_same(run(side), run(by_hand))
    if key is not None:
        assert_same(run(side, given_masks=True), run(by_hand, given_masks=True))


def test_a_function_that_is_a_module_too_is_called_with_its_parameters():
    """What equinox.filter_jit gives is a module of Equinox."""
    jitted = equinox.filter_jit(models.plain)
    plain = [
        jax_haiku.adopt(one, models.squared, optax.sgd(RATE), models.plain_params("float32"))
        for one in (jitted, models.plain)
    ]
    assert_same(*map(run, plain))


@pytest.mark.parametrize(
    ("adopt", "match"),
    [
        (
            lambda: jax_haiku.adopt(
                Rowwise(KEY), models.squared, optax.sgd(RATE), state={"mean": np.ones(4, "float32")}
            ),
            r"the state next to such a model is not valid(.|\n)*leave it out",
        ),
        (
            lambda: jax_haiku.adopt(Rowwise(KEY), models.squared),
            r"the optimizer is not valid(.|\n)*optax.adam",
        ),
        (lambda: jax_haiku.adopt(models.plain, models.squared, optax.sgd(RATE)), "no parameters"),
        (lambda: jax_haiku.adopt(Plain(), models.squared, optax.sgd(RATE)), "no parameters"),
        (lambda: jax_haiku.adopt(3, models.squared), r"the model is not valid(.|\n)*an object that holds"),
    ],
)
def test_objects_that_lack_something_are_refused(adopt, match):
    with pytest.raises(AdoptionError, match=match):
        adopt()
