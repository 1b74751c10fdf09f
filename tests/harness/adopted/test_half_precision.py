"""Modules, buffers, attributes and optimizers in bfloat16 and float16, which NumPy lacks or holds coarsely."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.harness.core.ledger import Ledger, Row
from lockstep.harness.verification import adopted

WIDTH = 16
HALVES = {"bfloat16": (torch.bfloat16, jnp.bfloat16), "float16": (torch.float16, jnp.float16)}


def batches(steps=3):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((32, WIDTH)), rng.standard_normal((32, 1))) for _ in range(steps)]


class Net(nn.Module):
    """Two layers in another dtype than their parameters."""

    def __init__(self, dtype):
        super().__init__()
        self.first, self.second, self.dtype = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1), dtype

    def forward(self, x):
        def layer(one, value):
            return nn.functional.linear(value, one.weight.to(self.dtype), one.bias.to(self.dtype))

        return layer(self.second, torch.tanh(layer(self.first, x.to(self.dtype))))


def torch_side(dtype=torch.bfloat16, name="torch", loss_dtype=torch.float32):
    torch.manual_seed(0)
    module = Net(dtype)

    def loss(output, y):
        return nn.functional.mse_loss(output.to(loss_dtype), y.to(loss_dtype))

    return pytorch.adopt(module, loss, torch.optim.SGD(module.parameters(), lr=0.05), name=name)


NAMES = {one: one for one in ("first.weight", "first.bias", "second.weight", "second.bias")}


def jax_side(dtype=jnp.bfloat16, activation=jnp.tanh, loss_dtype=jnp.float32):
    shapes = {
        "first.weight": (WIDTH, WIDTH),
        "first.bias": (WIDTH,),
        "second.weight": (1, WIDTH),
        "second.bias": (1,),
    }

    def model(params, x):
        half = {name: one.astype(dtype) for name, one in params.items()}
        hidden = activation(x.astype(dtype) @ half["first.weight"].T + half["first.bias"])
        return hidden @ half["second.weight"].T + half["second.bias"]

    def loss(output, y):
        return jnp.mean((output.astype(loss_dtype) - y.astype(loss_dtype)) ** 2)

    rng = np.random.default_rng(1)
    params = {name: 0.3 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return jax_haiku.adopt(model, loss, optax.sgd(0.05), params)


def verified(*sides, **settings):
    result = adopted.verify(sides, batches(), mapping=NAMES, diagnose="all", **settings)
    return result, result.cases[0].diagnoses[0]


@pytest.mark.parametrize("make", [torch_side, jax_side])
def test_the_same_code_agrees_and_is_observed(make):
    result, found = verified(make(), make())
    assert result.verdict is found.verdict is Verdict.AGREE
    compared = {row.name for row in found.ledger.rows if row.verdict is Verdict.AGREE}
    assert {"forward/output", "loss", "cotangent/output", "gradient/first.weight"} <= compared


@pytest.mark.parametrize("half", HALVES)
def test_two_frameworks_are_judged_with_the_eps_of_half_precision(half):
    """Rounding is so coarse that the whole run decides nothing; each stage of a step agrees."""
    left, right = HALVES[half]
    result, found = verified(torch_side(left), jax_side(right))
    assert result.verdict is Verdict.INCONCLUSIVE, result.census()
    assert found.verdict is not Verdict.DIFFER
    assert not found.ledger.blamed
    by_name = {row.name: row.verdict for row in found.ledger.rows}
    assert {by_name[name] for name in ("forward/output", "loss", "gradient/second.weight")} == {Verdict.AGREE}


@pytest.mark.parametrize("half", HALVES)
def test_another_activation_is_found_in_half_precision(half):
    left, right = HALVES[half]
    result, found = verified(torch_side(left), jax_side(right, jax.nn.relu))
    assert result.verdict is found.verdict is Verdict.DIFFER
    assert "in the output of output" in found.sentence


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (lambda: torch_side(), lambda: torch_side(torch.float32, "other")),
        (lambda: torch_side(torch.float32), lambda: torch_side(name="other")),
        (lambda: torch_side(), lambda: jax_side(jnp.float32)),
        (lambda: torch_side(torch.float32), lambda: jax_side()),
    ],
)
def test_half_precision_on_one_side_alone_is_a_difference(left, right):
    result, found = verified(left(), right())
    assert result.verdict is found.verdict is Verdict.DIFFER
    assert "in the output of output" in found.sentence


def test_a_loss_in_half_precision_is_read():
    """Both losses are rounded to 8 bits; they are compared in the parameters' dtype."""
    result, found = verified(torch_side(loss_dtype=torch.bfloat16), jax_side(loss_dtype=jnp.bfloat16))
    assert result.cases[0].runs[0].trace.losses.dtype == np.float32
    assert found.verdict is not Verdict.ERROR
    assert result.verdict is not Verdict.DIFFER, result.census()


class Remembering(nn.Module):
    """A linear layer that keeps half of what it was given in a buffer and in an attribute."""

    def __init__(self, dtype, share):
        super().__init__()
        self.fc, self.share = nn.Linear(WIDTH, 1), share
        self.register_buffer("seen", torch.zeros(WIDTH, dtype=dtype))
        self.last = torch.zeros(WIDTH, dtype=dtype)
        self.history = [self.last]

    def forward(self, x):
        with torch.no_grad():
            self.seen.mul_(0.5).add_(x.mean(0), alpha=self.share)
            self.last = (self.last + x.mean(0)).to(self.last.dtype)
            self.history = [self.last]
        # All three are used: what is not carried shows.
        return self.fc(x + self.seen.to(x.dtype) + self.last.to(x.dtype) + self.history[0].to(x.dtype))


def remembering_torch(dtype=torch.bfloat16, share=0.5, name="torch"):
    torch.manual_seed(0)
    module = Remembering(dtype, share)
    return pytorch.adopt(
        module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), lr=0.01), name=name
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.sweep)])
def test_buffers_and_attributes_of_torch_are_carried_to_the_bit(dtype):
    trainer = remembering_torch(dtype)
    state = trainer.init()
    for batch in adopted.task_of([trainer], batches(), None, "half").data:
        state, _ = trainer.step(state, batch)
    after = trainer.read(state)
    again = trainer.write(trainer.init(), after)
    assert after.buffers["seen"].dtype == np.float32
    assert torch.equal(again.module.seen, state.module.seen)
    assert again.module.seen.dtype is again.module.last.dtype is again.module.history[0].dtype is dtype
    assert torch.equal(again.module.last, state.module.last)
    assert torch.equal(again.module.history[0], state.module.last)
    assert state.module.last.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.sweep)])
@pytest.mark.parametrize(("share", "verdict"), [(0.5, Verdict.AGREE), (0.25, Verdict.DIFFER)])
def test_buffers_of_torch_in_half_precision_are_judged(dtype, share, verdict):
    sides = [remembering_torch(dtype), remembering_torch(dtype, share, "other")]
    result = adopted.verify(
        sides, batches(), diagnose="all", mapping={"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    )
    assert result.verdict is verdict, result.census()
    assert result.cases[0].diagnoses[0].verdict is verdict
    assert {one.quantity: one.verdict for one in result.comparisons}["seen"] is verdict


def remembering_jax(dtype=jnp.bfloat16, share=0.5):
    def model(params, state, x):
        moved = (0.5 * state["seen"] + share * x.mean(0)).astype(dtype)
        return (x + moved) @ params["w"], {"seen": moved}

    params = {"w": np.ones((WIDTH, 1), np.float32)}
    state = {"seen": jnp.zeros(WIDTH, dtype)}
    return jax_haiku.adopt(model, lambda o, y: jnp.mean((o - y) ** 2), optax.sgd(0.01), params, state=state)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.sweep)])
@pytest.mark.parametrize(("share", "verdict"), [(0.5, Verdict.AGREE), (0.25, Verdict.DIFFER)])
def test_buffers_of_jax_in_half_precision_are_judged(dtype, share, verdict):
    sides = [remembering_jax(dtype), remembering_jax(dtype, share)]
    result = adopted.verify(sides, batches(), diagnose="all", mapping={"w": "w"})
    assert result.verdict is verdict, result.census()
    assert result.cases[0].diagnoses[0].verdict is verdict
    assert {one.quantity: one.verdict for one in result.comparisons}["seen"] is verdict


def test_an_optimizers_state_in_half_precision_is_carried():
    """Optax' Adam with its first moment in bfloat16, against itself: resumed from its snapshot it goes on as before."""

    def side():
        params = {"w": np.ones((WIDTH, 1), np.float32)}
        transform = optax.adam(0.01, mu_dtype=jnp.bfloat16)
        return jax_haiku.adopt(
            lambda p, x: x @ p["w"], lambda o, y: jnp.mean((o - y) ** 2), transform, params
        )

    result = adopted.verify([side(), side()], batches(), mapping={"w": "w"}, diagnose="all")
    assert result.headline == "AGREE", result.census()
    assert result.cases[0].diagnoses[0].verdict is Verdict.AGREE
    assert "optimizer/0/mu/w" in {one.quantity for one in result.comparisons}


def test_a_step_that_failed_is_no_step_that_agrees():
    failed = Ledger((Row(3, "step", Verdict.ERROR, "TypeError: no"), Row(4, "loss", Verdict.AGREE)))
    assert failed.without_blame == "step 3 could not be compared by itself: TypeError: no"
    assert Ledger(failed.rows[1:]).without_blame == "every step that was compared by itself agrees"
