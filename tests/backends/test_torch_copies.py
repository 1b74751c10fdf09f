"""Copies of a user's torch code: nothing of it is lost, and what the originals share the copies share."""

import numpy as np
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import pytorch
from lockstep.backends.adoption import AdoptionError
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = models.batches(steps=5)


class Clamped(torch.optim.Optimizer):
    """Keeps a setting as an attribute, where `Optimizer` copies its groups and its state alone."""

    def __init__(self, params, lr, most):
        super().__init__(params, {"lr": lr})
        self.most = most

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                one -= group["lr"] * one.grad.clamp(-self.most, self.most)


class EverySecond(torch.optim.Optimizer):
    """Wraps another optimizer, and counts in an attribute."""

    def __init__(self, inner):
        self.inner, self.count = inner, 0
        super().__init__([one for group in inner.param_groups for one in group["params"]], {})

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        if self.count % 2 == 0:
            self.inner.step()


class Rebuilt(nn.Module):
    """Makes its copy anew, as a Keras model does from its archive: the copy has other tensors than its optimizer's copy."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(models.WIDTH, 1).double()

    def forward(self, x):
        return self.inner(x)

    def __deepcopy__(self, memo):
        made = Rebuilt()
        made.load_state_dict(self.state_dict())
        return made


class Counting(nn.Module):
    """Its output depends on how often it was called, which a Python number says."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls = nn.Linear(models.WIDTH, 1).double(), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) / self.calls


def normed(momentum):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Linear(models.WIDTH, 3), nn.BatchNorm1d(3, momentum=momentum), nn.Linear(3, 1)
        ).double()


def side(module, optimizer, **settings):
    return pytorch.adopt(module, nn.functional.mse_loss, optimizer, **settings)


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make()


MADE = {
    "an attribute": (lambda: seeded(models.perceptron), lambda p: Clamped(p, 0.1, 0.01)),
    "an optimizer that is wrapped": (
        lambda: seeded(models.perceptron),
        lambda p: EverySecond(torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    ),
    "a module that makes its copy anew": (lambda: seeded(Rebuilt), lambda p: torch.optim.Adam(p, lr=0.1)),
    "counts in a buffer": (lambda: normed(None), lambda p: torch.optim.SGD(p, lr=0.1)),
    "counts in an attribute": (lambda: seeded(Counting), lambda p: torch.optim.SGD(p, lr=0.1)),
}
"""What `copy.deepcopy` loses, or a snapshot of parameters and buffers of floating point: the module, its optimizer."""


def by_hand(module, optimizer, batches):
    """The losses of a bare loop."""
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", MADE)
def test_it_trains_as_a_bare_loop_and_agrees_with_itself(name):
    make, optimizer = MADE[name]
    sides = []
    for _ in range(2):
        module = make()
        sides.append(side(module, optimizer(list(module.parameters()))))  # made already: it must be copied
    result = adopted.verify(sides, BATCHES, diagnose="all")
    assert result.verdict is Verdict.AGREE, result.census()
    assert result.cases[0].diagnoses[0].verdict is Verdict.AGREE
    module = make()
    expected = by_hand(module, optimizer(list(module.parameters())), BATCHES)
    np.testing.assert_allclose(result.runs[0].trace.losses, expected, rtol=1e-12)


@pytest.mark.parametrize("name", MADE)
def test_the_users_own_objects_stay_as_they_were(name):
    make, optimizer = MADE[name]
    module = make()
    built = optimizer(list(module.parameters()))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = side(module, built)
    adopted.verify([trainer, side(make(), optimizer)], BATCHES)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert getattr(module, "calls", 0) == 0
    assert getattr(built, "count", 0) == 0


def test_another_setting_in_an_attribute_is_a_difference():
    make, _ = MADE["an attribute"]
    sides = [side(make(), lambda p, most=most: Clamped(p, 0.1, most)) for most in (0.01, 0.02)]
    assert adopted.verify(sides, BATCHES).verdict is Verdict.DIFFER


def test_another_way_to_average_is_a_difference():
    sides = [side(normed(momentum), lambda p: torch.optim.SGD(p, lr=0.1)) for momentum in (None, 0.1)]
    result = adopted.verify(sides, BATCHES)
    assert result.verdict is Verdict.DIFFER
    assert "running_" in result.cases[0].diagnoses[0].sentence


def test_an_optimizer_that_evaluates_the_loss_trains_as_a_bare_loop():
    """LBFGS takes a closure."""
    module = seeded(models.perceptron)
    result = adopted.verify(
        [side(seeded(models.perceptron), lambda p: torch.optim.LBFGS(p, lr=0.1)) for _ in range(2)], BATCHES
    )
    assert result.verdict is Verdict.AGREE, result.census()
    optimizer = torch.optim.LBFGS(module.parameters(), lr=0.1)
    losses = []
    for x, y in BATCHES:

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(torch.tensor(x)), torch.tensor(y))
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    np.testing.assert_allclose(result.runs[0].trace.losses, losses, rtol=1e-10)


class Keeping(nn.Module):
    """Refuses to be copied, as a sharded module does."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(models.WIDTH, 1).double()

    def forward(self, x):
        return self.inner(x)

    def __deepcopy__(self, memo):
        raise AssertionError("deep copies are not supported")


def test_what_cannot_be_copied_is_refused_with_the_remedy_that_works():
    module = seeded(Keeping)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with pytest.raises(AdoptionError, match="cannot be copied") as error:
        adopted.verify([side(module, optimizer), side(module, optimizer)], BATCHES)
    assert "a function without arguments" in error.value.fix

    def make():
        made = seeded(Keeping)
        return made, torch.optim.SGD(made.parameters(), lr=0.1)

    sides = [pytorch.adopt(make, nn.functional.mse_loss) for _ in range(2)]
    assert adopted.verify(sides, BATCHES).verdict is Verdict.AGREE
