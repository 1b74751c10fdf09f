"""Adopted trainers go the way of the catalogue's backends: the vote of a third, injection, cotangents, growth, explanations."""

import numpy as np
import pytest
import torch
from torch import nn

from lockstep.backends import pytorch
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import Kind
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = models.batches()
SAME = {name: name for name in models.plain_params()}


def found(sides, mapping, **settings):
    (case,) = adopted.verify(sides, BATCHES, mapping=mapping, **settings).cases
    return case


def test_a_third_trainer_votes_against_the_side_that_is_wrong():
    sides = [models.torch_side(), models.jax_side(rate=0.11), models.numpy_side()]
    case = found(sides, [models.NAMES, models.NAMES])
    first = case.diagnoses[0]
    assert (first.backend, first.culprit.name) == ("jax", "jax")
    assert first.culprit.reason == "numpy agrees with torch"
    assert first.explanation.name == "learning rate"
    assert adopted.diagnose(sides, BATCHES, mapping=[models.NAMES, models.NAMES]).culprit == first.culprit


def test_the_reference_may_be_the_one_that_is_wrong():
    """And then it is the reference that is explained."""
    sides = [models.jax_side(rate=0.11), models.numpy_side(), models.jax_side(name="third")]
    case = found(sides, [SAME, SAME])
    first = case.diagnoses[0]
    assert (first.reference, first.backend, first.culprit.name) == ("jax", "numpy", "jax")
    assert first.culprit.reason == "third agrees with numpy"
    assert first.explanation.name == "learning rate"
    assert "jax updates 1.1 times as far" in first.sentence


class Off(nn.Linear):
    """Its output is off by one part in 10⁹."""

    def forward(self, x):
        return super().forward(x) * (1 + 1e-9)


class WrongBackward(torch.autograd.Function):
    """The identity, whose hand-written backward pass is off."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 1e-9)


class OffBackward(nn.Tanh):
    def forward(self, x):
        return WrongBackward.apply(super().forward(x))


def with_layers(**layers):
    """The perceptron with other layers, its weights as they were."""
    module = models.perceptron()
    for place, kind in layers.items():
        old = module[int(place[1:])]
        new = kind(old.in_features, old.out_features).double() if isinstance(old, nn.Linear) else kind()
        new.load_state_dict(old.state_dict())
        module[int(place[1:])] = new
    return models.torch_side(module=module, name="port")


OWN = {f"{layer}.{kind}": f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")}


def differing(ledger):
    return [row.name for row in ledger.rows if row.verdict is Verdict.DIFFER]


def of_other_layers(ledger, *wrong):
    """What differs and is neither a wrong layer's output nor what its own backward pass makes."""
    own = {f"forward/{one}" for one in wrong} | {
        f"gradient/{one}.{kind}" for one in wrong for kind in ("weight", "bias")
    }
    return [name for name in differing(ledger) if name not in own and not name.startswith("cotangent/")]


def test_given_the_references_values_what_is_right_agrees_again():
    """Everything behind the wrong layer differs; computed from the reference's values and gradients, that layer alone."""
    (diagnosis,) = found([models.torch_side(), with_layers(_2=Off)], OWN).diagnoses
    assert diagnosis.first.name == "forward/2"
    assert {"forward/4", "forward/output", "loss"} <= set(differing(diagnosis.ledger))
    assert "forward/2" in differing(diagnosis.exchanged)
    assert of_other_layers(diagnosis.exchanged, 2) == []


def test_a_second_mistake_is_not_hidden_behind_the_first():
    (diagnosis,) = found([models.torch_side(), with_layers(_0=Off, _4=Off)], OWN).diagnoses
    assert diagnosis.first.name == "forward/0"
    assert [name for name in differing(diagnosis.exchanged) if name.startswith("forward/")] == [
        "forward/0",
        "forward/4",
    ]
    assert "differs as well" in diagnosis.sentence


def test_haiku_modules_take_values_too():
    """A layer of the port is off: computed from torch's values, it alone differs."""
    import haiku as hk
    import jax
    import jax.numpy as jnp

    from lockstep.backends import jax_haiku

    def forward(x):
        hidden = jnp.tanh(hk.Linear(models.WIDTH)(x))
        hidden = jnp.tanh(Scaled(models.WIDTH, name="linear_1")(hidden))
        return hk.Linear(1, name="linear_2")(hidden)

    class Scaled(hk.Linear):
        def __call__(self, x):
            return super().__call__(x) * (1 + 1e-9)

    model = hk.without_apply_rng(hk.transform(forward))
    with jax.enable_x64(True):
        params = model.init(jax.random.PRNGKey(0), jnp.zeros((1, models.WIDTH), jnp.float64))
        port = jax_haiku.adopt(model, models.squared, models.optimizers("sgd", 0.1)[1], params, name="port")
    names = {
        f"{layer}.{kind}": {"to": f"{port_layer}/{one}", **({"transpose": [1, 0]} if one == "w" else {})}
        for layer, port_layer in ((0, "linear"), (2, "linear_1"), (4, "linear_2"))
        for kind, one in (("weight", "w"), ("bias", "b"))
    }
    (diagnosis,) = found([models.torch_side(), port], names).diagnoses
    assert diagnosis.first.name == "forward/2", diagnosis.sentence
    assert "forward/2" in differing(diagnosis.exchanged)
    assert of_other_layers(diagnosis.exchanged, 2) == []


def test_a_wrong_backward_pass_is_found_at_the_module_whose_output_it_reaches_first():
    (diagnosis,) = found([models.torch_side(), with_layers(_3=OffBackward)], OWN).diagnoses
    assert diagnosis.first.name == "cotangent/2", diagnosis.sentence


def test_what_rounding_grows_to_is_called_growth():
    sides = [models.torch_side("momentum", 0.2), models.jax_side("momentum", 0.2)]
    case = found(sides, models.NAMES, steps=30, diagnose="all")
    assert case.verdict is Verdict.AGREE, case.diagnoses[0].sentence
    assert case.diagnoses[0].kind in (Kind.GROWTH, Kind.NONE)
    assert case.diagnoses[0].verdict is Verdict.AGREE


def test_a_mistake_that_no_compared_step_shows_is_left_to_the_whole_runs(monkeypatch):
    """A rate that changes after the steps that lockstep compares."""
    from lockstep.harness.runs import lockstep_run

    monkeypatch.setattr(lockstep_run, "MOST_CARRIED", 3)
    module = models.perceptron()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    late = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4], gamma=0.5)
    port = pytorch.adopt(module, nn.functional.mse_loss, optimizer, scheduler=late, name="port")
    case = found([models.torch_side(), port], OWN)
    (diagnosis,) = case.diagnoses
    assert (diagnosis.verdict, diagnosis.kind) == (Verdict.DIFFER, Kind.CARRIED)
    assert diagnosis.sentence.startswith("the free runs ")
    assert diagnosis.first.step == 5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_side_carries_its_optimizers_state_and_the_rows_say_so(optimizer):
    sides = [models.torch_side(optimizer), models.jax_side(optimizer)]
    case = found(sides, models.NAMES, diagnose="all")
    rows = [row for row in case.diagnoses[0].ledger.rows if row.name == "optimizer"]
    assert bool(rows) == (optimizer == "adam")
    assert {row.verdict for row in rows} <= {Verdict.SKIPPED}
    assert all("each side carries its own" in row.reason for row in rows)


def test_two_sides_whose_optimizers_keep_the_same_exchange_it():
    sides = [models.torch_side("adam"), models.torch_side("adam", name="port")]
    case = found(sides, OWN, diagnose="all")
    rows = [row for row in case.diagnoses[0].ledger.rows if row.kind == "optimizer"]
    assert {row.verdict for row in rows} == {Verdict.AGREE}
    assert np.isfinite([row.limit for row in rows]).all()
