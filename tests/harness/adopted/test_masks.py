"""Dropout: both sides are given the same masks, paired by function; what cannot be given or differs is refused and named."""

import copy
import functools

import equinox
import flax.linen as linen
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku
from lockstep.backends.adoption import AdoptionError, Given
from lockstep.backends.problem import Batch
from lockstep.cli import main
from lockstep.harness.adopt.side import sides_of
from lockstep.harness.adopt.task import task_of
from lockstep.harness.matching.masks import masked, paired
from lockstep.harness.verification import adopted
from tests.harness.adopted import models
from tests.harness.adopted.test_verification import sweep

KEY = jax.random.PRNGKey(3)
BATCHES = [*models.batches(4), *models.batches(1, rows=5, seed=1)]
"""The last is shorter, as the last of an epoch is."""
RATES = (0.25, 0.5)


@functools.cache
def torch_side(rates=RATES, **settings):
    torch.manual_seed(0)
    layers = (
        nn.Linear(4, 6),
        nn.Tanh(),
        nn.Dropout(rates[0]),
        nn.Linear(6, 3),
        nn.Dropout(rates[1]),
        nn.Linear(3, 1),
    )
    return models.torch_side("adam", 0.01, module=nn.Sequential(*layers).double(), **settings)


class Linen(linen.Module):
    rates: tuple[float, float] = RATES

    @linen.compact
    def __call__(self, x):
        hidden = linen.tanh(linen.Dense(6, param_dtype=x.dtype)(x))
        hidden = linen.Dropout(self.rates[0], deterministic=False)(hidden)
        hidden = linen.Dense(3, param_dtype=x.dtype)(hidden)
        hidden = linen.Dropout(self.rates[1], deterministic=False)(hidden)
        return linen.Dense(1, param_dtype=x.dtype)(hidden)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List(
            [nnx.Linear(*one, rngs=rngs, param_dtype=float) for one in ((4, 6), (6, 3), (3, 1))]
        )
        self.drop = nnx.List([nnx.Dropout(rate) for rate in RATES])

    def __call__(self, x, rngs):
        x = self.drop[0](jnp.tanh(self.layers[0](x)), rngs=rngs)
        return self.layers[2](self.drop[1](self.layers[1](x), rngs=rngs))


class Equinox(equinox.Module):
    layers: list
    drop: list

    def __init__(self, key):
        shapes = ((4, 6), (6, 3), (3, 1))
        self.layers = [equinox.nn.Linear(*one, key=key, dtype=float) for one in shapes]
        self.drop = [equinox.nn.Dropout(rate) for rate in RATES]

    def __call__(self, x, key):
        one, two = jax.random.split(key)
        x = self.drop[0](jnp.tanh(self.layers[0](x)), key=one)
        return self.layers[2](self.drop[1](self.layers[1](x), key=two))


def adopt(model, params, **settings):
    return jax_haiku.adopt(model, models.squared, optax.adam(0.01), params, key=KEY, **settings)


@functools.cache
def flax_side(rates=RATES):
    model = Linen(rates)
    with jax.enable_x64(True):
        params = model.init({"params": KEY, "dropout": KEY}, jnp.zeros((1, 4), float))["params"]
        return adopt(
            lambda p, x, key: model.apply({"params": p}, x, rngs={"dropout": key}), params, name="flax"
        )


@functools.cache
def nnx_side():
    with jax.enable_x64(True):
        graph, params = nnx.split(Nnx(nnx.Rngs(0)))
        return adopt(lambda p, x, key: nnx.merge(graph, p)(x, nnx.Rngs(key)), params, name="nnx")


@functools.cache
def equinox_side():
    with jax.enable_x64(True):
        params, rest = equinox.partition(Equinox(KEY), equinox.is_inexact_array)
        apply = lambda p, x, key: jax.vmap(equinox.combine(p, rest))(x, jax.random.split(key, len(x)))  # noqa: E731
        return adopt(apply, params, name="equinox")


@functools.cache
def haiku_side():
    def forward(x):
        x = hk.dropout(hk.next_rng_key(), RATES[0], jnp.tanh(hk.Linear(6)(x)))
        return hk.Linear(1)(hk.dropout(hk.next_rng_key(), RATES[1], hk.Linear(3)(x)))

    model = hk.transform(forward)
    with jax.enable_x64(True):
        return adopt(model, model.init(KEY, jnp.zeros((1, 4), float)), name="haiku")


PORTS = {"flax": flax_side, "nnx": nnx_side, "equinox": equinox_side, "haiku": haiku_side}


@pytest.mark.parametrize("name", PORTS)
def test_the_draws_of_every_framework_are_seen(name):
    """JAX' program is searched by the name of a function of it: a version that has another is found here."""
    batch = Batch(*BATCHES[0])
    for side in (torch_side(), PORTS[name]()):
        draws = side.draws(batch)
        assert [one.shape for one in draws] == [(8, 6), (8, 3)]
        np.testing.assert_allclose([one.rate for one in draws], RATES)
    assert [one.place for one in torch_side().draws(batch)] == ["2", "4"]


@pytest.mark.parametrize("name", ["flax", *sweep("nnx", "equinox", "haiku")])
def test_ports_with_dropout_agree_and_learn_otherwise_than_without(name):
    result = adopted.verify([torch_side(), PORTS[name]()], BATCHES)
    assert result.verdict is Verdict.AGREE, result.census()
    assert all("masks" in run.environment for run in result.cases[0].runs)
    plain = adopted.verify([torch_side((0.0, 0.0))] * 2, BATCHES, mapping=_same(torch_side()))
    assert not np.allclose(*(one.cases[0].runs[0].trace.losses for one in (result, plain)), rtol=1e-3)


def test_the_other_way_round_and_every_stage():
    result = adopted.verify([flax_side(), torch_side()], BATCHES, diagnose="all")
    assert result.verdict is Verdict.AGREE, result.census()
    (found,) = result.cases[0].diagnoses
    assert {"state", "forward", "loss", "gradient", "update", "step"} <= {
        row.kind for row in found.ledger.rows
    }


def _same(side):
    return {name: name for name in side.read(side.init()).parameters}


@pytest.mark.parametrize("mapping", [None, _same])
def test_another_rate_is_named(mapping):
    sides = torch_side(), torch_side((0.25, 0.4), name="port")
    with pytest.raises(AdoptionError, match=r"port drops at another rate than torch\n.*0.4 in 4, 0.5 in 4"):
        adopted.verify(sides, BATCHES, mapping=mapping and mapping(sides[0]))
    exchanged = torch_side(), torch_side(RATES[::-1], name="port")
    with pytest.raises(AdoptionError, match="port drops at another rate"):
        adopted.verify(exchanged, BATCHES, mapping=_same(exchanged[0]))


def test_a_wrong_scale_is_a_difference():
    """Only the mask is given: what is made of it is the user's own."""
    apply = lambda p, x, key: (x * jax.random.bernoulli(key, 0.75, x.shape)) @ p["0.weight"].T + p["0.bias"]  # noqa: E731
    with jax.enable_x64(True):
        right = adopt(apply, {"0.weight": np.ones((1, 4)), "0.bias": np.zeros(1)})
    module = nn.Sequential(nn.Linear(4, 1)).double()
    dropped = lambda module, x: module(nn.functional.dropout(x, 0.25))  # noqa: E731
    left = models.torch_side(module=module, forward=dropped)
    names = {"0.weight": "0.weight", "0.bias": "0.bias"}
    result = adopted.verify([left, right], BATCHES, mapping=names)
    assert result.verdict is Verdict.DIFFER
    assert result.cases[0].diagnoses[0].first.name == "forward/output"


def test_masks_that_cannot_be_the_same_are_refused():
    with pytest.raises(AdoptionError, match=r"do not draw as many masks(.|\n)*torch 2 \(2, 4\); port 0"):
        adopted.verify([torch_side(), models.torch_side(name="port")], BATCHES)
    one_for_all = lambda p, x, key: x * jax.random.bernoulli(key, 0.75, (4,)) @ p["w"]  # noqa: E731
    one_a_row = lambda p, x, key: x * jax.random.bernoulli(key, 0.75, x.shape) @ p["w"]  # noqa: E731
    with jax.enable_x64(True):
        sides = [adopt(one, {"w": np.ones((4, 1))}) for one in (one_a_row, one_for_all)]
    with pytest.raises(
        AdoptionError, match=r"a mask of jax 2 cannot be made(.|\n)*\(4,\) in draw 0, \(8, 4\)(.|\n)*fix"
    ):
        adopted.verify(sides, BATCHES, mapping={"w": "w"})


def test_other_randomness_is_refused_with_the_remedy():
    noisy = models.torch_side(forward=lambda module, x: module(x + torch.randn_like(x)))
    with pytest.raises(
        AdoptionError, match=r"torch draws random numbers(.|\n)*nothing else(.|\n)*evaluation mode"
    ):
        adopted.verify([noisy, models.jax_side()], BATCHES, mapping=models.NAMES)
    noisy = models.torch_side(forward=lambda module, x: module(x + torch.randn_like(x)), seed=0)
    with pytest.raises(AdoptionError, match="random numbers that the others do not draw"):
        adopted.verify([noisy, models.jax_side()], BATCHES, mapping=models.NAMES)
    assert adopted.verify([noisy, noisy], BATCHES, mapping=_same(noisy)).verdict is Verdict.AGREE

    def shaken(params, x, key):
        return (x + jax.random.normal(key, x.shape, x.dtype)) @ params["w"]

    with jax.enable_x64(True):
        sides = [
            jax_haiku.adopt(shaken, models.squared, optax.sgd(0.1), {"w": np.ones((4, 1))}, key=one)
            for one in (KEY, jax.random.PRNGKey(4))
        ]
    with pytest.raises(AdoptionError, match="random numbers that the others do not draw"):
        adopted.verify(sides, BATCHES, mapping={"w": "w"})


class Repeated(linen.Module):
    """Three layers that drop, as one that is scanned over, each computed again in the backward pass."""

    @linen.compact
    def __call__(self, x):
        def body(layer, x, _):
            hidden = linen.tanh(linen.Dense(4, param_dtype=x.dtype)(x))
            return linen.Dropout(0.25, deterministic=False)(hidden), None

        layers = linen.scan(
            linen.remat(body, prevent_cse=False),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            length=3,
        )
        return layers(self, x, None)[0]


def test_masks_inside_of_scanned_and_checkpointed_layers_are_those_of_a_loop():
    """One weight, used three times: torch calls it in a loop of Python's own."""
    model = Repeated()
    with jax.enable_x64(True):
        params = model.init({"params": KEY, "dropout": KEY}, jnp.zeros((1, 4), float))["params"]
        right = adopt(lambda p, x, key: model.apply({"params": p}, x, rngs={"dropout": key}), params)
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.25)).double()
    left = models.torch_side("adam", 0.01, module=module, forward=lambda module, x: module(module(module(x))))
    batches = [(x, x) for x, _ in BATCHES]
    assert len(right.draws(Batch(*batches[0]))) == 3
    result = adopted.verify([left, right], batches)
    assert result.verdict is Verdict.AGREE, result.census()


@pytest.mark.parametrize("mapping", [None, {"0.weight": "w", "0.bias": "b"}])
def test_what_the_code_raises_is_shown_in_place_of_its_draws(mapping):
    """Where the other side draws, code that fails is not code that draws nothing."""

    def failing(output, y):
        return output - y.missing_attribute

    module = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5)).double()
    dropping = lambda p, x, key: x * jax.random.bernoulli(key, 0.5, x.shape) @ p["w"] + p["b"]  # noqa: E731
    with jax.enable_x64(True):
        params = {"w": np.ones((4, 1)), "b": np.zeros(1)}
        right = adopt(dropping, params)
    left = models.torch_side(module=module, loss=failing)
    raised = r"torch: a step of it fails\n.*missing_attribute.* \(failing, line \d+ of test_masks.py\)"
    with pytest.raises(AdoptionError, match=raised):
        adopted.verify([left, right], BATCHES, mapping=mapping)


def convolution():
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Dropout2d(0.4),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Dropout(0.2),
    )
    return models.torch_side("adam", 0.01, module=nn.Sequential(*layers, nn.Linear(27, 1)).double())


class LastChannels(linen.Module):
    @linen.compact
    def __call__(self, x):
        kept = {"param_dtype": x.dtype}
        x = linen.relu(linen.Conv(3, (3, 3), padding=1, **kept)(jnp.moveaxis(x, 1, -1)))
        x = linen.Dropout(0.4, broadcast_dims=(1, 2), deterministic=False)(x)
        x = linen.Dropout(0.3, deterministic=False)(x).reshape(len(x), -1)
        return linen.Dense(1, **kept)(linen.Dropout(0.2, deterministic=False)(x))


@pytest.mark.sweep
def test_the_layout_of_a_mask_is_told_by_function():
    """Three channels of three by three: by its shape, each of the masks could be as it is."""
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((4, 1))) for _ in range(2)]
    model = LastChannels()
    with jax.enable_x64(True):
        params = model.init({"params": KEY, "dropout": KEY}, jnp.asarray(batches[0][0]))["params"]
        right = adopt(lambda p, x, key: model.apply({"params": p}, x, rngs={"dropout": key}), params)
    result = adopted.verify([convolution(), right], batches, diagnose="none")
    assert result.verdict is Verdict.AGREE, result.census()


class Branches(nn.Module):
    """Two that drop alike; which is called first is told."""

    def __init__(self, order):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 5), nn.Linear(4, 5)])
        self.last, self.drop, self.order = nn.Linear(10, 1), nn.Dropout(0.3), order

    def forward(self, x):
        made = {at: self.drop(torch.sin(self.parts[at](x)) if at else self.parts[at](x)) for at in self.order}
        return self.last(torch.cat([made[0], made[1]], 1))


def test_the_order_of_calls_is_told_by_function():
    torch.manual_seed(0)
    sides = [
        models.torch_side(module=Branches(order).double(), name=str(order)) for order in ((0, 1), (1, 0))
    ]
    result = adopted.verify(sides, BATCHES, mapping=_same(sides[0]))
    assert result.verdict is Verdict.AGREE, result.census()
    task = task_of(sides, BATCHES, None, "")
    left, right = sides_of(["one", "two"], sides, [adopted.Mapping.of(_same(sides[0]))])
    assert [one.places for one in paired(left, right, task.data[0])] == [(0, 1), (1, 0)]


@pytest.mark.sweep
def test_what_is_inside_of_attention_and_lstm_is_given_too():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True).double()
    x = np.random.default_rng(0).standard_normal((3, 5, 8))
    (shape, *_), places = zip(
        *((one.shape, one.place) for one in models.torch_side(module=layer).draws(Batch(x, x))), strict=True
    )
    assert (shape, places) == ((3, 2, 5, 5), ("self_attn", "dropout1", "dropout", "dropout2"))
    lstm = models.torch_side(
        module=nn.LSTM(8, 8, 2, dropout=0.5).double(), forward=lambda module, x: module(x)[0]
    )
    assert adopted.verify([lstm, lstm], [(x, x)] * 2, mapping=_same(lstm)).verdict is Verdict.AGREE


WAYS = {
    "functional": lambda x: nn.functional.dropout(x, 0.25) * 0.75,
    "as on a GPU": lambda x: torch.native_dropout(x, 0.25, True)[0] * 0.75,
    "probability": lambda x: x * x.bernoulli(0.75),
    "probabilities": lambda x: x * torch.bernoulli(torch.full_like(x, 0.75)),
    "in place": lambda x: x * torch.empty_like(x).bernoulli_(torch.tensor(0.75)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_draw_a_mask_in_torch(way):
    side = models.torch_side(forward=lambda module, x: module(WAYS[way](x)))
    batch = Batch(*BATCHES[0])
    (draw,) = side.draws(batch)
    assert (draw.place, draw.shape) == ("draw 0", (8, 4))
    np.testing.assert_allclose(draw.rate, 0.25)
    mask = np.random.default_rng(0).random((8, 4)) > 0.25
    masked_loss = side.observe(side.init(), batch._replace(masks={"0": mask}), ("loss",))["loss"]
    plain = models.torch_side()
    expected = plain.observe(plain.init(), batch._replace(x=batch.x * mask), ("loss",))["loss"]
    np.testing.assert_allclose(masked_loss, expected, rtol=1e-12)


def test_what_is_no_mask_of_one_rate_is_left_alone():
    uneven = models.torch_side(forward=lambda module, x: module(x * torch.bernoulli(torch.sigmoid(x))))
    none = models.torch_side(forward=lambda module, x: module(x * torch.bernoulli(torch.ones_like(x))))
    for side in (uneven, none):
        assert side.draws(Batch(*BATCHES[0])) == ()


def test_the_users_module_its_mode_and_generator_are_left_alone():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1)).double()
    side = models.torch_side(module=module)
    before, generator = copy.deepcopy(module.state_dict()), torch.random.get_rng_state()
    (left, _) = masked(
        sides_of(["one", "two"], [side, side], [adopted.Mapping.of(_same(side))]),
        task_of([side], BATCHES, None, ""),
    )
    batch = left.masked(0, task_of([side], BATCHES, None, "").data[0])
    (_, loss), (_, again) = (side.step(side.init(), batch) for _ in range(2))
    assert loss == again
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    x = batch.x
    assert np.array_equal(
        side.predict(side.init(), x), copy.deepcopy(module).eval()(torch.tensor(x)).detach()
    )
    assert np.array_equal(side.observe(side.init(), batch, ("loss",))["loss"], loss)


def test_masks_are_the_dtypes_and_the_layers_own():
    """As nn.Dropout makes of the same mask."""
    side = models.torch_side(module=nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)).double())
    mask = np.random.default_rng(0).random((8, 4)) > 0.5
    seen = side.observe(side.init(), Batch(*BATCHES[0], {"0": mask}), ("forward",))
    np.testing.assert_array_equal(seen["forward/0"], BATCHES[0][0] * mask * 2)


def test_a_step_that_draws_otherwise_is_refused():
    given = Given("torch", {"0": np.ones(3, bool), "1": np.ones(2, bool)})
    given.next((3,))
    with pytest.raises(AdoptionError, match="fewer than 2"):
        given.end()
    given = Given("torch", {"0": np.ones(3, bool)})
    with pytest.raises(AdoptionError, match=r"one of shape \(2,\), where \(3,\) was"):
        given.next((2,))
    with pytest.raises(AdoptionError, match=r"where none was"):
        given.next((3,))


COMMAND = """
from tests.harness.adopted import test_masks

def left():
    return test_masks.torch_side(), test_masks.BATCHES

right = test_masks.flax_side

def wrong():
    return test_masks.flax_side((0.25, 0.4))
"""


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "dropping.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "dropping", raising=False)
    assert main(["verify", "--trainer", "dropping:left", "--trainer", "dropping:right", "--quiet"]) == 0
    assert main(["verify", "--trainer", "dropping:left", "--trainer", "dropping:wrong"]) == 2
    assert "0.4 in Linen/Dropout_1, 0.5 in 4" in capsys.readouterr().err
