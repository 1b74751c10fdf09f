"""What differs by another number at each step, under schedules and clipping, is read off every step; what it leaves is said."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from lockstep import Verdict
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = models.batches(steps=12)
RATE = 1e-2


def halved(every=3):
    """A rate that is halved every so many updates: of torch as a factor, of Optax as the rate, in double precision."""
    return (lambda step: 0.5 ** (step // every)), (lambda count: RATE * 0.5 ** (count // every))


def torch_side(make, factor=None, most=None):
    module = models.perceptron()
    optimizer = make(module.parameters())
    schedule = factor and torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def clip(module):
        torch.nn.utils.clip_grad_norm_(module.parameters(), most)

    return models.pytorch.adopt(
        module,
        torch.nn.functional.mse_loss,
        optimizer,
        scheduler=schedule,
        before_update=most and clip,
    )


def jax_side(transform, most=None):
    chain = transform if most is None else optax.chain(optax.clip_by_global_norm(most), transform)
    return models.jax_side(transform=chain)


def adamw(factor=None, most=None):
    return torch_side(lambda p: torch.optim.AdamW(p, lr=RATE), factor, most)


def sgd(factor=None, most=None):
    return torch_side(lambda p: torch.optim.SGD(p, lr=RATE), factor, most)


def momentum(factor=None, most=None):
    return torch_side(lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9), factor, most)


def diagnosed(left, right, mapping=models.NAMES):
    result = adopted.verify([left, right], BATCHES, mapping=mapping)
    assert result.verdict is Verdict.DIFFER
    return result.cases[0].diagnoses[0]


def test_optax_other_default_of_the_weight_decay_is_named_under_a_schedule():
    """torch's AdamW decays by 0.01 times the rate, Optax' by 0.0001."""
    factor, rate = halved()
    right = jax_side(optax.adamw(rate, weight_decay=0.01))
    assert adopted.verify([adamw(factor), right], BATCHES, mapping=models.NAMES).verdict is Verdict.AGREE
    found = diagnosed(adamw(factor), jax_side(optax.adamw(rate)))
    assert found.explanation.name == "weight decay"
    assert found.explanation.rest == 0
    assert (
        "as its schedule has it: by 9.9e-05 of themselves at step 0, by 1.2375e-05 at step 10"
        in found.sentence
    )


def test_the_largest_cause_is_named_where_a_small_one_is_left():
    """torch adds 1e-6 to the norm by which it clips, too."""
    factor, rate = halved()
    found = diagnosed(adamw(factor, 0.5), jax_side(optax.adamw(rate), 0.5))
    assert found.explanation.name == "weight decay"
    assert 0 < found.explanation.rest < 1e-3
    assert "of the distance to another cause" in found.sentence


def test_two_causes_are_both_named():
    """A rate of its own at each step would explain both: one rate leaves what torch adds to the norm."""
    found = diagnosed(momentum(most=0.05), jax_side(optax.sgd(2 * RATE, momentum=0.9), 0.05))
    assert found.explanation.name == "learning rate"
    assert found.explanation.rest == 0
    rate, clip = found.explanation.description.split("; it also ")
    assert rate.startswith("updates 2 times as far")
    assert clip == "divides a gradient that it clips by its norm, where the other adds 1e-6 to the norm"


@pytest.mark.parametrize("torch_first", [True, False])
def test_what_torch_adds_to_the_norm_that_it_clips_by_is_named(torch_first):
    sides = adamw(most=0.5), jax_side(optax.adamw(RATE, weight_decay=0.01), 0.5)
    if torch_first:
        found = diagnosed(*sides)
        words = "by its norm, where the other adds 1e-6 to the norm"
    else:
        back = {"w0": {"to": "0.weight", "transpose": [1, 0]}, "b0": "0.bias"}
        back |= {"w1": {"to": "2.weight", "transpose": [1, 0]}, "b1": "2.bias"}
        back |= {"w2": {"to": "4.weight", "transpose": [1, 0]}, "b2": "4.bias"}
        found = diagnosed(*reversed(sides), mapping=back)
        words = "by its norm plus 1e-6, where the other adds nothing"
    assert found.explanation.name == "clip"
    assert words in found.explanation.description


def test_a_schedule_that_is_one_update_late_is_named_with_the_step():
    factor, _ = halved(4)
    found = diagnosed(sgd(factor), jax_side(optax.sgd(lambda count: RATE * 0.5 ** ((count - 1) // 4))))
    assert found.explanation.name == "learning rate"
    assert "updates 2 times as far at step " in found.explanation.description
    assert "another schedule" in found.explanation.description


def test_a_clip_that_one_side_leaves_out_is_named_with_its_norm():
    found = diagnosed(sgd(), jax_side(optax.sgd(RATE), 0.05))
    assert found.explanation.name == "clip"
    assert "to a norm of 0.05" in found.explanation.description


def test_a_schedule_in_single_precision_is_named():
    """In NumPy, where nobody sees it being computed."""
    factor = torch_side(
        lambda p: torch.optim.SGD(p, lr=RATE), lambda step: float(np.float32(0.9) ** np.float32(step))
    )
    found = diagnosed(factor, jax_side(optax.sgd(lambda count: RATE * 0.9**count)))
    assert found.explanation.name == "single precision"
    assert "computes its learning rate in float32" in found.sentence


def test_a_rate_that_is_off_as_little_is_called_another_rate():
    """One ratio may have any cause."""
    found = diagnosed(sgd(), jax_side(optax.sgd(RATE * (1 + 3e-8))))
    assert found.explanation.name == "learning rate"


def test_what_no_number_at_any_step_explains_is_not_explained():
    """The update's root for its size: no factor, no share of the parameters."""
    odd = optax.chain(
        optax.sgd(RATE),
        optax.stateless(
            lambda updates, params: jax.tree.map(lambda u: jnp.sign(u) * jnp.abs(u) ** 0.9, updates)
        ),
    )
    assert diagnosed(sgd(), jax_side(odd)).explanation is None
