"""How two sides initialise, compared: right ports agree, and each planted mistake is named."""

import random

import equinox
import flax.linen as linen
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import torch
from torch import nn

import lockstep
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.protocol import Snapshot
from lockstep.harness.conformance import Nonconformity
from lockstep.harness.conformance.initialisers.copies import copies
from lockstep.harness.conformance.initialisers.drawn import describe
from lockstep.harness.conformance.initialisers.linking import link
from lockstep.harness.conformance.initialisers.two_sample import TwoSample, distance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.mapping.link import MappingError
from tests.harness.conformance import initialisers_made as made

check = lockstep.check_initialisers
KEY = jax.random.PRNGKey


HAIKU = hk.transform(lambda x: hk.Linear(30, with_bias=False)(x))


def reason(report, name):
    return next(one.reason for one in report.outcomes if one.left == name)


def orthogonal():
    module = nn.Linear(20, 12)
    nn.init.orthogonal_(module.weight)
    return module


def dense(init, shape=(20, 12)):
    return lambda seed: {"kernel": init(KEY(seed), shape)}


def keys(seed):
    """Two layers of one key."""
    one = jax.random.normal(KEY(seed), (16, 8))
    return {"a": {"w": one}, "b": {"w": one / 4}}


def two_keys(seed):
    one, other = jax.random.split(KEY(seed))
    return {"a": {"w": jax.random.normal(one, (16, 8))}, "b": {"w": jax.random.normal(other, (16, 8)) / 4}}


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, enable_nested_tensor=False)


RIGHT = {
    "linear and layer norm": (made.perceptron, made.formula),
    "embedding, convolution, LSTM, batch norm": (made.Layers, made.layers),
    "a state dict": (made.perceptron, lambda: made.perceptron().state_dict()),
    "equinox": (
        lambda seed: equinox.nn.MLP(24, 8, 40, 1, key=KEY(seed)),
        lambda: nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 8)),
    ),
    "haiku": (
        lambda seed: HAIKU.init(KEY(seed), np.ones((1, 20), "float32")),
        dense(lambda key, shape: jax.random.truncated_normal(key, -2, 2, shape) / 20**0.5, (20, 30)),
    ),
    "flax": (
        lambda seed: linen.Dense(30, use_bias=False).init(KEY(seed), np.ones((1, 20), "float32")),
        dense(jax.nn.initializers.lecun_normal(), (20, 30)),
    ),
    "orthogonal": (lambda: {"weight": orthogonal().weight}, dense(jax.nn.initializers.orthogonal())),
    "one layer copied": (encoder, encoder),
    "drawn in float32 by the reference": (lambda seed: made.square(seed, drawn="float32"), made.square),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ports_agree(name):
    report = check(*RIGHT[name])
    assert report.verdict is Verdict.AGREE, report.census()
    report.raise_unless_agree()
    assert all(1 <= one.caught <= 4 for one in report.outcomes), report.census()


PLANTED = {
    "zeros for random": (
        made.changed(b1=lambda rng, arrays: 0 * arrays["b1"]),
        "3.bias",
        "numpy starts from 0 where torch draws U(±1/√40), 40 the fan in of 3.weight",
    ),
    "ones for zeros": (
        made.changed(c=lambda rng, arrays: 1 + arrays["c"]),
        "1.bias",
        "numpy starts from 1 where torch starts from 0",
    ),
    "the fan of the other axis": (
        made.changed(w0=lambda rng, arrays: made.uniform(rng, 40, (24, 40))),
        "0.weight",
        "numpy draws U(±1/√40), 40 the fan out where torch draws U(±1/√24), 24 the fan in",
    ),
    "no scale": (
        made.changed(w1=lambda rng, arrays: rng.standard_normal((40, 8))),
        "3.weight",
        "numpy draws N(0, 1) where torch draws U(±1/√40), 40 the fan in",
    ),
    "another distribution of that variance": (
        made.changed(w0=lambda rng, arrays: rng.standard_normal((24, 40)) / (3 * 24) ** 0.5),
        "0.weight",
        "numpy draws N(0, ",
    ),
    "positive numbers alone": (
        made.changed(w0=lambda rng, arrays: abs(arrays["w0"])),
        "0.weight",
        "numpy draws U(0, 0.2",
    ),
    "a row that is repeated": (
        made.changed(w0=lambda rng, arrays: np.tile(arrays["w0"][:1], (24, 1))),
        "0.weight",
        "numpy repeats one slice along axis 1, where torch draws each",
    ),
    "a row of zeros": (
        made.changed(w0=lambda rng, arrays: arrays["w0"] * (np.arange(24) > 0)[:, None]),
        "0.weight",
        "numpy starts 40 of 960 numbers from the same for every seed, the first [0, 0] from 0, where torch draws them",
    ),
    "not finite": (
        made.changed(b0=lambda rng, arrays: arrays["b0"] / 0.0),
        "0.bias",
        "numpy start from numbers that are not finite",
    ),
    "half precision": (
        made.changed(w0=lambda rng, arrays: arrays["w0"].astype("float16")),
        "0.weight",
        "numpy draws numbers that are rounded to float16, and torch does not",
    ),
    "trained": (made.trained, "1.weight", "torch 2 draws"),
    "another shape": (
        made.changed(b0=lambda rng, arrays: arrays["b0"][:-1]),
        "0.bias",
        "numpy has shape (39,) where torch has (40,)",
    ),
    "a seed that is ignored": (
        lambda: made.formula(3),
        "0.weight",
        "they look like U(±1/√24), 24 the fan in, from a seed that is ignored, or were trained or loaded already",
    ),
    "another dtype": (
        lambda seed: {"0": {"weight": made.formula(seed)["0"]["weight"].astype("float64")}},
        "0.weight",
        "numpy has float64 where torch has float32",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@np.errstate(all="ignore")
def test_a_planted_mistake_is_named(name):
    port, parameter, says = PLANTED[name]
    report = check(made.perceptron, port)
    assert report.verdict is Verdict.DIFFER
    assert parameter in report.failed
    assert says in reason(report, parameter), report.census()
    with pytest.raises(Nonconformity, match="does not initialise as torch does"):
        report.raise_unless_agree()


def test_what_is_right_beside_a_mistake_agrees():
    report = check(made.perceptron, PLANTED["the fan of the other axis"][0])
    assert report.failed == ("0.weight",)


SINGLE = {
    "rounded to float32": (
        made.square,
        lambda seed: made.square(seed, drawn="float32"),
        "rounded to float32",
    ),
    "normal for orthogonal": (
        lambda: {"weight": orthogonal().weight},
        dense(jax.nn.initializers.normal(20**-0.5)),
        "not orthogonal, where torch draws an orthogonal matrix of gain 1",
    ),
    "orthogonal for normal": (
        dense(jax.nn.initializers.normal(20**-0.5)),
        lambda: {"weight": orthogonal().weight},
        "torch draws an orthogonal matrix of gain 1 where jax draws N(0, 1/20), 20 the fan in",
    ),
    "another gain": (
        dense(jax.nn.initializers.orthogonal()),
        dense(jax.nn.initializers.orthogonal(2**0.5)),
        "gain 1.41 where jax has gain 1",
    ),
    "plain for truncated": (
        dense(jax.nn.initializers.lecun_normal(), (64, 32)),
        dense(jax.nn.initializers.normal(64**-0.5), (64, 32)),
        "jax 2 draws N(0, 1/64), 64 the fan in where jax draws N cut at 2 standard deviations, with mean 0 and variance 1/64",
    ),
    "truncated, not corrected": (
        dense(jax.nn.initializers.lecun_normal(), (64, 32)),
        dense(lambda key, shape: jax.random.truncated_normal(key, -2, 2, shape) / 8, (64, 32)),
        "jax 2 draws N(0, 1/64) cut at 2 standard deviations, which leaves 0.88 of them",
    ),
    "one key for two layers": (two_keys, keys, "with the same random numbers as a/w, one key used twice"),
    "a layer that is copied": (
        encoder,
        lambda: nn.ModuleDict({"layers": nn.ModuleList(encoder().layers[:1]).extend(encoder().layers[1:])}),
        "with the same random numbers as layers.0.",
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_planted_mistake_of_one_initialiser_is_named(name):
    left, right, says = SINGLE[name]
    report = check(left, right)
    assert report.verdict is Verdict.DIFFER
    assert says in report.census(), report.census()


def test_builds_that_share_memory_are_reported():
    table = np.ones(3)
    report = check(lambda: {"w": table, "b": np.zeros(2)}, lambda: {"w": np.ones(3), "b": np.zeros(2)})
    assert report.verdict is Verdict.DIFFER
    assert report.shared == (("numpy", "w"),)
    assert "two builds of numpy share the memory of w" in report.sentence
    module = made.perceptron()
    assert ("torch", "0.weight") in check(lambda: module, made.perceptron).shared


def test_constants_are_compared_exactly_but_for_the_rounding_of_libraries():
    table = np.sin(np.arange(64.0)).reshape(8, 8)

    def other(off):
        return check(lambda: {"table": table.copy()}, lambda: {"table": table.T * (1 + off)})

    assert other(4e-16).verdict is Verdict.AGREE  # the layout is found by what is equal
    assert other(1e-13).verdict is Verdict.DIFFER
    assert "numbers that no seed changes differ" in other(1e-13).census()


def test_too_few_numbers_prove_nothing():
    few = [lambda seed: {"b": made.uniform(made.generator(seed), 4, 3)} for _ in range(2)]
    report = check(*few, seeds=4)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "independent numbers of each side are too few" in report.sentence
    with pytest.raises(Nonconformity):
        report.raise_unless_agree()
    enough = check(*few)
    assert enough.seeds == 128
    assert enough.verdict is Verdict.AGREE, enough.census()


def test_what_is_said_to_be_found_is_found():
    """The weakest scale that a report names, on other draws."""

    def left(seed):
        return {"w": made.generator(seed).standard_normal((6, 5))}

    def wider(seed):
        return {"w": caught * left(seed)["w"]}

    caught = check(left, left).outcomes[0].caught
    assert 1.05 < caught < 2.5
    assert all(check(left, wider, first_seed=10**7 * k).failed for k in range(10))


def alarms(make, runs, **settings):
    found = [check(make, make, first_seed=10**6 * k, **settings) for k in range(runs)]
    return sum(one.verdict is Verdict.DIFFER for one in found)


def mixed(seed):
    """Independent numbers, signs, mostly zeros, numbers that hang together, and an orthogonal matrix."""
    rng = made.generator(seed)
    return {
        "normal": rng.standard_normal((9, 3)),
        "signs": rng.choice([-1.0, 1.0], 30),
        "sparse": rng.standard_normal(40) * (rng.random(40) < 0.1),
        "scaled": rng.uniform(0.5, 2) * rng.standard_normal((5, 4)),
        "repeated": np.tile(rng.standard_normal((1, 6)), (5, 1)),
        "orthogonal": np.linalg.qr(rng.standard_normal((6, 6)))[0],
    }


def test_sides_that_initialise_alike_do_not_alarm():
    assert alarms(mixed, 12, seeds=16) == 0


@pytest.mark.sweep
@pytest.mark.parametrize(("false_alarm", "most"), [(1e-6, 0), (0.05, 26)])
def test_false_alarms_are_as_rare_as_stated(false_alarm, most):
    """Of 300; 26 or more of a probability of 0.05 would be seen once in 300."""
    assert alarms(mixed, 300, seeds=12, false_alarm=false_alarm) <= most


def test_adopted_trainers_are_built_like_modules():
    def torch_side():
        module = nn.Linear(6, 40)
        return lockstep.adopt_torch(
            module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), lr=0.1)
        )

    def jax_side(seed, width=6):
        params = {"w": jax.random.uniform(KEY(seed), (6, 40), minval=-1, maxval=1) / width**0.5}
        params["b"] = jax.random.uniform(KEY(seed + 1), (40,), minval=-1, maxval=1) / width**0.5
        squared = lambda out, y: jnp.mean((out - y) ** 2)  # noqa: E731
        return lockstep.adopt_jax(
            lambda p, x: x @ p["w"] + p["b"], squared, optax.sgd(0.1), params, name="port"
        )

    mapping = {"weight": {"to": "w", "transpose": [1, 0]}, "bias": "b"}
    assert check(torch_side, jax_side, mapping=mapping).verdict is Verdict.AGREE
    wrong = check(torch_side, lambda seed: jax_side(seed, 40), mapping=mapping)
    assert wrong.failed == ("weight", "bias")
    assert "port draws U(±1/√40), 40 the fan out where torch draws U(±1/√6), 6 the fan in" in wrong.census()


def test_slices_of_a_fused_parameter_are_compared_one_by_one():
    """One Glorot of (24, 8) where the other side has three of (8, 8)."""
    glorot = jax.nn.initializers.glorot_uniform()

    def fused(seed):
        return {"qkv": glorot(KEY(seed), (8, 24))}

    def three(seed):
        return {one: glorot(KEY(seed + at), (8, 8)) for at, one in enumerate("qkv")}

    mapping = {"qkv": {"to": ["q", "k", "v"], "axis": 1, "sizes": [8, 8, 8]}}
    assert check(fused, three, mapping=mapping).failed == ("qkv",) * 3


def test_names_that_mislead_are_paired_by_their_shapes():
    left, right = (
        {"a/w": np.ones((2, 3)), "b/w": np.ones((4, 5))},
        {"a/w": np.ones((5, 4)), "b/w": np.ones((3, 2))},
    )
    linked = link(None, Snapshot(left), Snapshot(right))
    assert {(one[0].left, one[0].right) for one in linked.pairs} == {("a/w", "b/w"), ("b/w", "a/w")}
    assert not linked.misfits


def test_what_has_no_counterpart_is_said():
    report = check(lambda: {"u": np.ones(3), "v": np.ones(3)}, lambda: {"x": np.ones(3), "y": np.ones(3)})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "u: INCONCLUSIVE: no counterpart is certain (candidates: x, y); give mapping=" in report.census()
    left_out = check(lambda: nn.BatchNorm1d(3), lambda: {"weight": np.ones(3, "f"), "bias": np.zeros(3, "f")})
    assert "3 buffers not compared" in check(made.Layers, made.layers).sentence
    assert "left:running_mean: a buffer without a counterpart" in left_out.census()


def test_the_users_generators_are_as_they_were():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    check(made.perceptron, made.formula, seeds=4)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def test_each_build_of_either_side_has_a_seed_of_its_own():
    """The two-sample tests ask for independent draws, of the same code too."""
    given = []

    def side(seed):
        given.append(seed)
        return made.square(seed)

    check(side, side, seeds=5, first_seed=7)
    assert len(set(given)) == len(given) == 10
    assert min(given) == 7


def test_orders_that_agree_by_chance_are_no_copies():
    rng = np.random.default_rng(0)
    first, second = ({f"p{k}": rng.standard_normal(30) for k in range(500)} for _ in range(2))
    assert not copies(first, second)
    first["q"], second["q"] = 3 * first["p7"], 5 * second["p7"]
    assert copies(first, second) == {"q": "p7"}


@pytest.mark.parametrize("size", [4, 20, 150])
@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0, 2.0])
def test_the_distance_is_scipys_and_its_bound_is_above_the_exact_probability(size, shift):
    rng = np.random.default_rng(size)
    left, right = rng.standard_normal((size, 1)), rng.standard_normal((size, 1)) + shift
    exact = scipy.stats.ks_2samp(left.ravel(), right.ravel(), method="exact")
    assert distance(left, right) == pytest.approx(exact.statistic)
    assert TwoSample(left, right, 1e-6)._p_of_distance(exact.statistic) >= exact.pvalue


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (lambda rng: rng.uniform(-0.125, 0.125, 4000), "U(±1/√64), 64 the fan in"),
        (lambda rng: rng.uniform(0, 0.5, 4000), "U(0, 0.5)"),
        (lambda rng: rng.standard_normal(4000) * (2 / 64) ** 0.5, "N(0, 2/64), 64 the fan in"),
        (lambda rng: rng.standard_normal(4000) / 64, "N(0, 1/64²), 64 the fan in"),
        (lambda rng: rng.standard_normal(4000) * 0.02, "N(0, 0.02²)"),
        (lambda rng: rng.exponential(1, 4000), "numbers from "),
    ],
)
def test_what_is_drawn_is_said_in_words(numbers, says):
    assert describe(numbers(np.random.default_rng(0)), {64.0: "the fan in"}).startswith(says)


@pytest.mark.parametrize(
    ("left", "settings", "error", "says"),
    [
        (3, {}, AdoptionError, "what builds this side"),
        (lambda: 3, {}, AdoptionError, "no backend knows what the left side builds"),
        (lambda: 1 / 0, {}, AdoptionError, "ZeroDivisionError"),
        (lambda: nn.Tanh(), {}, AdoptionError, "has no parameters"),
        (lambda width: {"w": np.ones(width + 1)}, {}, AdoptionError, "other parameters for another seed"),
        (made.perceptron, {"seeds": 3}, AdoptionError, "too few seeds"),
        (made.perceptron, {"first_seed": -1}, AdoptionError, "the first seed is none"),
        (made.perceptron, {"false_alarm": 0.0}, AdoptionError, "is no probability"),
        (made.perceptron, {"mapping": {"0.weigth": "x"}}, MappingError, "does not have"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_fix(left, settings, error, says):
    with pytest.raises(error, match=says):
        check(left, made.formula, **settings)
