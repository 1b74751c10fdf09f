"""When states that differ are a difference: the updates that both optimizers make of the same gradients.

`README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import pytorch
from lockstep.harness.verification import adopted
from tests.harness.adopted import models
from tests.harness.adopted.test_slots import BATCHES, RMS, SQUARES, kept, make_adam, missing, verified


@pytest.mark.parametrize("b2", [0.9985, 0.9995])
def test_a_beta2_that_shows_only_after_some_updates_is_a_difference(b2):
    """In float32, at the run's one step: the fourth update is 2e-4 apart, the eighth 5e-4."""
    result = verified(make_adam, optax.adam(0.01, b2=b2), "float32", steps=1, diagnose="none")
    assert kept(result)["exp_avg_sq"] == {Verdict.DIFFER}


def test_a_rate_that_moves_no_parameter_makes_no_difference_of_a_convention():
    """Updates of 1e-10 are lost in float32 at parameters near 1, and seen at small ones."""
    module = models.perceptron(torch.float32)
    with torch.no_grad():
        for one in module.parameters():
            one.copy_(0.5 + one.abs())
    left = pytorch.adopt(
        module, nn.functional.mse_loss, lambda p: torch.optim.RMSprop(p, lr=1e-10, momentum=0.9, **RMS)
    )
    right = models.jax_side(transform=optax.rmsprop(1e-10, momentum=0.9, **SQUARES), dtype="float32")
    result = adopted.verify([left, right], BATCHES, mapping=models.NAMES, diagnose="none")
    assert kept(result)["momentum_buffer"] == {Verdict.AGREE}


def test_a_convention_is_one_where_both_read_what_they_keep():
    result = verified(
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, **RMS),
        optax.rmsprop(0.01, momentum=0.9, **SQUARES),
    )
    assert kept(result)["momentum_buffer"] == {Verdict.AGREE}
    assert all(name.startswith("step/") for name in missing(result))
