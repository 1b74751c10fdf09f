"""torch's LSTM has two biases that enter as their sum, where others have one: mapped, trained, and named as what it is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.backends.adoption import AdoptionError
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

JOINT = "lstm.bias_ih_l0 + lstm.bias_hh_l0"
RULES = {
    "sgd": (lambda p: torch.optim.SGD(p, 0.1), optax.sgd(0.1)),
    "momentum": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
    "adam": (lambda p: torch.optim.Adam(p, 0.01), optax.adam(0.01)),
}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Single(eqx.Module):
    cell: eqx.nn.LSTMCell
    head: eqx.nn.Linear

    def __init__(self):
        one, two = jax.random.split(jax.random.PRNGKey(0))
        self.cell = eqx.nn.LSTMCell(3, 5, key=one, dtype=jnp.float64)
        self.head = eqx.nn.Linear(5, 1, key=two, dtype=jnp.float64)

    def __call__(self, xs):
        zero = jnp.zeros(5)
        (hidden, _), _ = jax.lax.scan(lambda state, x: (self.cell(x, state), None), (zero, zero), xs)
        return self.head(hidden)


def batches():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((6, 4, 3)), rng.standard_normal((6, 1))) for _ in range(3)]


def pair(reference="torch", rule="sgd", frozen=False):
    module = Recurrent().double()
    if frozen:
        module.lstm.bias_hh_l0.requires_grad_(False).zero_()
    trained = [one for one in module.parameters() if one.requires_grad]
    split = pytorch.adopt(module, nn.functional.mse_loss, RULES[rule][0](trained))
    with jax.enable_x64(True):
        params, static = eqx.partition(Single(), eqx.is_inexact_array)
        single = jax_haiku.adopt(
            lambda params, x: jax.vmap(eqx.combine(params, static))(x),
            models.squared,
            RULES[rule][1],
            params,
            name="equinox",
        )
    return [split, single] if reference == "torch" else [single, split]


@pytest.mark.parametrize("reference", ["torch", "equinox"])
@pytest.mark.parametrize("rule", RULES)
def test_the_sum_of_two_biases_moves_twice_as_far(reference, rule):
    sides = pair(reference, rule)
    found = adopted.find_mapping(*sides, batches())
    assert not found.left_over
    assert not found.unconfirmed
    assert JOINT in {name for one in found.links for name in (one.left, one.right)}
    diagnosis = adopted.diagnose(sides, batches())
    assert diagnosis.verdict is Verdict.DIFFER
    assert diagnosis.explanation.name == "split parameter"
    assert diagnosis.explanation.rest == 0.0
    assert JOINT in diagnosis.explanation.description
    assert "twice as far each step" in diagnosis.sentence or "half as far each step" in diagnosis.sentence


def test_the_sum_is_the_one_at_the_start():
    """Both compute the same with what they start from."""
    sides = pair()
    task, prepared = adopted.prepared(sides, batches(), None, None, "test")
    losses = [one.loss(task.data[0]) for one in prepared]
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    module = Recurrent().double()
    both = (module.lstm.bias_ih_l0 + module.lstm.bias_hh_l0).detach().numpy()
    assert (prepared[0].start.parameters[JOINT] == both).all()


def test_where_one_is_frozen_both_train_the_same():
    result = adopted.verify(pair(frozen=True), batches())
    assert result.verdict is Verdict.AGREE, result.census()


def test_another_mistake_is_not_excused_by_it():
    """The sum moves twice as far, and all else with another rate."""
    split = pair(rule="sgd")[0]
    module = Recurrent().double()
    faster = pytorch.adopt(module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), 0.13))
    found = adopted.diagnose([faster, pair()[1]], batches())
    assert found.explanation is None or found.explanation.name != "split parameter"
    assert adopted.verify([split, pair()[0]], batches()).verdict is Verdict.AGREE


def test_a_mapping_by_hand_says_it():
    found = adopted.find_mapping(*pair(), batches())
    written = Mapping.of({JOINT: "cell/bias"}).links
    assert written[0].left == JOINT
    result = adopted.verify(pair(), batches(), mapping=found)
    assert result.verdict is Verdict.DIFFER
    wrong = Mapping.of({"lstm.bias_ih_l0 + lstm.bias_ih_l1": "cell/bias"})
    with pytest.raises(AdoptionError, match="names a sum that there is not"):
        adopted.verify(pair(), batches(), mapping=wrong)


def test_two_that_are_no_sum_are_refused():
    wrong = Mapping.of({"lstm.weight_ih_l0 + lstm.weight_hh_l0": "cell/weight_hh"})
    with pytest.raises(AdoptionError, match="names a sum that there is not"):
        adopted.verify(pair(), batches(), mapping=wrong)
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    module = nn.Sequential(one, nn.Tanh(), two, nn.Linear(4, 1)).double()
    side = pytorch.adopt(module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), 0.1))
    same = Mapping.of(
        {
            "0.bias + 2.bias": "0.bias + 2.bias",
            **{n: n for n in ("0.weight", "2.weight", "3.weight", "3.bias")},
        }
    )
    with pytest.raises(AdoptionError, match="is no sum that its code depends on alone"):
        adopted.verify([side, side], models.batches(2), mapping=same)
