"""What two optimizers keep for each parameter: paired by the quantity's name or by what it holds, and compared."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.harness.verification import adopted
from lockstep.harness.verification.slots import Slot, counts_of, quantity, slots_of
from tests.harness.adopted import models

BATCHES = models.batches(4, rows=8)
STEPS = {f"step/{name}" for name in models.NAMES}


DTYPES = ["float64", pytest.param("float32", marks=pytest.mark.sweep)]


def sides(make, transform, dtype="float64"):
    left = pytorch.adopt(models.perceptron(getattr(torch, dtype)), nn.functional.mse_loss, make)
    return [left, models.jax_side(transform=transform, dtype=dtype)]


def verified(make, transform, dtype="float64", batches=BATCHES, **settings):
    return adopted.verify(sides(make, transform, dtype), batches, mapping=models.NAMES, **settings)


def kept(result):
    """The verdicts of what the optimizers keep, by slot."""
    found = {}
    for one in result.comparisons:
        if one.quantity.startswith("optimizer/"):
            found.setdefault(one.quantity.split("/")[1], set()).add(one.verdict)
    return found


def missing(result):
    return {name for one in result.cases[0].left_out for name in one.names}


ADAM = {"exp_avg", "exp_avg_sq", "step"}
RMS = {"alpha": 0.9, "eps": 1e-8}
SQUARES = {"decay": 0.9, "eps": 1e-8, "eps_in_sqrt": False}

RIGHT = {
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        optax.sgd(0.1, 0.9),
        {"momentum_buffer"},
    ),
    "nesterov": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        optax.sgd(0.1, 0.9, nesterov=True),
        {"momentum_buffer"},
    ),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), optax.adam(0.01), ADAM),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        optax.adamw(0.01, weight_decay=0.1),
        ADAM,
    ),
    "adamax": (lambda p: torch.optim.Adamax(p, lr=0.01), optax.adamax(0.01), {"exp_avg", "exp_inf", "step"}),
    "a schedule's count": (
        lambda p: torch.optim.Adam(p, lr=0.01),
        optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda count: -0.01)),
        ADAM,
    ),
    "an optimizer a layer": (
        lambda p: torch.optim.Adam(p, lr=0.01),
        optax.multi_transform(
            {"w": optax.adam(0.01), "b": optax.adam(0.01)}, {name: name[0] for name in models.plain_params()}
        ),
        ADAM,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RIGHT)
def test_what_both_keep_is_compared_and_nothing_is_left_out(name, dtype):
    make, transform, names = RIGHT[name]
    result = verified(make, transform, dtype, require_all=True)
    assert result.headline == "AGREE", result.census()
    assert kept(result) == {key: {Verdict.AGREE} for key in names}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("make", "transform", "names"),
    [
        (lambda p: torch.optim.RMSprop(p, lr=0.01, **RMS), optax.rmsprop(0.01, **SQUARES), {"square_avg"}),
        (
            lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, **RMS),
            optax.rmsprop(0.01, centered=True, **SQUARES),
            {"square_avg", "grad_avg"},
        ),
        # Optax applies the rate before the momentum, so that what it keeps is -0.01 times as large.
        (
            lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, **RMS),
            optax.rmsprop(0.01, momentum=0.9, **SQUARES),
            {"square_avg", "momentum_buffer"},
        ),
        (
            lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, eps=0),
            optax.adagrad(0.1, initial_accumulator_value=0.1, eps=0),
            {"sum"},
        ),
        (
            lambda p: torch.optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6),
            optax.adadelta(1.0, rho=0.9, eps=1e-6),
            {"square_avg", "acc_delta"},
        ),
    ],
)
def test_only_the_count_that_optax_does_not_keep_is_left_out(make, transform, names, dtype):
    result = verified(make, transform, dtype)
    assert result.headline == "AGREE, 6 arrays of the optimizer's state of torch not compared"
    assert (kept(result), missing(result)) == ({key: {Verdict.AGREE} for key in names}, STEPS)


def adam(*, stored=lambda mu, count: mu, used=lambda mu, count: mu, start=0, name="mu", b2=0.999):
    """Adam at a rate of 0.01, that keeps its first moment as `stored`, uses it as `used`, and counts from `start`."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        mu = jax.tree.map(lambda one: stored(one, 0), zeros)
        return {name: mu, "nu": zeros, "count": jnp.asarray(start, jnp.int32)}

    def update(updates, state, params=None):
        before = state["count"] - start
        count = before + 1
        mu = jax.tree.map(lambda m, g: 0.9 * used(m, before) + 0.1 * g, state[name], updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state["nu"], updates)
        divided = lambda m, v: -0.01 * m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - b2**count)) + 1e-8)  # noqa: E731
        moved = {name: jax.tree.map(lambda m: stored(m, count), mu), "nu": nu, "count": count + start}
        return jax.tree.map(divided, mu, nu), moved

    return optax.GradientTransformation(init, update)


def corrected(mu, count):
    return mu / jnp.maximum(1 - 0.9**count, 1e-9)


def uncorrected(mu, count):
    return mu * jnp.maximum(1 - 0.9**count, 1e-9)


MU = {f"exp_avg/{name}" for name in models.NAMES}
OTHER_MU = {f"mu/{name}" for name in models.NAMES}


def make_adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"stored": corrected, "used": uncorrected}, set()),
        ({"stored": lambda mu, count: -3 * mu, "used": lambda mu, count: mu / -3}, set()),
        ({"stored": lambda mu, count: mu + 0.1, "used": lambda mu, count: mu - 0.1}, MU | OTHER_MU),
        ({"start": 5}, STEPS | {"count"}),
        ({"name": "smoothed"}, set()),
        ({"name": "tripled", "stored": lambda mu, count: 3 * mu, "used": lambda mu, count: mu / 3}, set()),
    ],
)
def test_what_another_convention_keeps_is_compared_up_to_a_factor_or_left_out(settings, left_out):
    result = verified(make_adam, adam(**settings))
    assert result.verdict is Verdict.AGREE, result.census()
    assert missing(result) == left_out
    assert set().union(*kept(result).values()) == {Verdict.AGREE}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("make", "transform", "wrong"),
    [
        (lambda p: torch.optim.Adam(p, lr=0.0), optax.adam(0.0, b2=0.99), {"exp_avg_sq"}),
        (lambda p: torch.optim.Adam(p, lr=0.0), optax.adam(0.0, b1=0.5), {"exp_avg"}),
        (lambda p: torch.optim.SGD(p, lr=0.0, momentum=0.9), optax.sgd(0.0, 0.5), {"momentum_buffer"}),
        (lambda p: torch.optim.Adam(p, lr=0.0), adam(start=1), {"step"}),
    ],
)
def test_a_difference_that_no_parameter_shows_is_one(make, transform, wrong, dtype):
    if wrong == {"step"}:  # the rate of 0 makes it matter to nobody
        transform = optax.chain(transform, optax.scale(0.0))
    result = verified(make, transform, dtype, BATCHES[:2], diagnose="none")
    assert result.verdict is Verdict.DIFFER
    assert {name for name, one in kept(result).items() if one == {Verdict.DIFFER}} == wrong


@pytest.mark.parametrize("steps", [1, 4])
def test_a_small_rate_hides_no_other_beta2(steps):
    result = verified(
        lambda p: torch.optim.Adam(p, lr=1e-5), optax.adam(1e-5, b2=0.99), "float32", BATCHES[:steps]
    )
    differing = {one.quantity.split("/")[1] for one in result.comparisons if one.verdict is Verdict.DIFFER}
    assert (result.verdict, differing) == (Verdict.DIFFER, {"exp_avg_sq"})


def test_what_other_gradients_make_of_a_slot_is_no_convention():
    """The optimizers are the same, the losses are not: the slots differ, and are not left out."""
    left, _ = sides(make_adam, optax.adam(0.01))
    right = models.jax_side(
        transform=optax.adam(0.01), loss=lambda output, y: jnp.mean(jnp.abs(output - y) ** 3)
    )
    result = adopted.verify([left, right], BATCHES, mapping=models.NAMES, diagnose="none")
    assert result.headline == "DIFFER"
    assert kept(result)["exp_avg"] == kept(result)["exp_avg_sq"] == {Verdict.DIFFER}


class Averaging(torch.optim.SGD):
    """SGD that keeps an average of each parameter, which no step reads."""

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for one in group["params"]:
                    kept = self.state[one].setdefault("ema", torch.zeros_like(one))
                    kept.mul_(0.9).add_(one, alpha=0.1)


def averaging(decay, name="ema"):
    def update(updates, state, params):
        moved = lambda kept, change, old: decay * kept + (1 - decay) * (old + change)  # noqa: E731
        return updates, {name: jax.tree.map(moved, state[name], updates, params)}

    return optax.GradientTransformation(lambda params: {name: jax.tree.map(jnp.zeros_like, params)}, update)


@pytest.mark.parametrize(
    ("decay", "name", "verdict", "compared"),
    [
        (0.9, "ema", Verdict.AGREE, True),
        (0.9, "slow", Verdict.AGREE, True),
        (0.5, "ema", Verdict.DIFFER, True),
        (0.5, "slow", Verdict.AGREE, False),
    ],
)
def test_an_average_is_compared_by_its_name_or_its_numbers(decay, name, verdict, compared):
    """Under no common name and with other numbers nobody can know that they are to be one: they are left out, and named."""
    transform = optax.chain(optax.sgd(0.1), averaging(decay, name))
    result = verified(lambda p: Averaging(p, lr=0.1), transform, diagnose="none")
    assert (result.verdict, bool(kept(result)), bool(missing(result))) == (verdict, compared, not compared)


def test_two_slots_with_the_same_numbers_are_not_guessed():
    transform = optax.chain(optax.sgd(0.1), averaging(0.9, "slow"), averaging(0.9, "again"))
    result = verified(lambda p: Averaging(p, lr=0.1), transform)
    assert kept(result) == {}
    assert len(missing(result)) == 3 * len(models.NAMES)


def test_too_few_numbers_pair_nothing():
    def side(name):
        params = {"w": np.ones((4, 1)), "b": np.zeros(1)}
        with jax.enable_x64(True):
            return jax_haiku.adopt(
                lambda p, x: x @ p["w"] + p["b"],
                models.squared,
                optax.chain(optax.sgd(0.1), averaging(0.9, name)),
                params,
            )

    result = adopted.verify([side("one"), side("other")], BATCHES, mapping={"w": "w", "b": "b"})
    assert kept(result) == {}
    assert missing(result) == {"1/one/w", "1/one/b", "1/other/w", "1/other/b"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("0/mu", "exp_avg"),
        ("exp_avg", "exp_avg"),
        ("inner.exp_avg_sq", "exp_avg_sq"),
        ("step:int", "step"),
        ("1/trace", "momentum_buffer"),
        ("0/slow", "slow"),
        ("1", "1"),
        ("", ""),
    ],
)
def test_a_quantity_has_one_name(path, expected):
    assert quantity(path) == expected


def test_slots_of_disjoint_parameters_are_one_and_others_keep_their_paths():
    names = ["a/mu/w", "b/mu/b", "0/trace/w", "1/trace/w", "1/trace/b", "count"]
    assert slots_of(names, ["w", "b"]) == [
        Slot("0/trace", {"w": "0/trace/w"}),
        Slot("1/trace", {"b": "1/trace/b", "w": "1/trace/w"}),
        Slot("exp_avg", {"w": "a/mu/w", "b": "b/mu/b"}),
    ]


def test_counts_of_parameters_that_are_not_one_number_are_no_count():
    state = {
        "step/w": np.float32(3),
        "step/b": np.float32(2),
        "0/count": np.int32(3),
        "half/count": np.float32(0.5),
    }
    arrays = {name: np.asarray(one) for name, one in state.items()}
    assert counts_of(arrays, slots_of(arrays, ["w", "b"])) == [("0/count",)]
