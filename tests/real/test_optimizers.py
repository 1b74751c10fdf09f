"""pytorch_optimizer against Optax and optax.contrib: each agrees, or differs as is stated and was confirmed."""

from functools import partial

import optax
import pytest
import torch

kozistr = pytest.importorskip("pytorch_optimizer", reason="`make real` installs pytorch_optimizer")

from optax import contrib
from pytorch_optimizer.optimizer.muon import base as muon

from lockstep import Verdict, check_optimizer

SHAPES = {"w": (3, 2), "v": (3,)}


def training(kind, **settings):
    """Schedule-free optimizers say in which mode they are."""

    def make(parameters):
        optimizer = kind(parameters, **settings)
        optimizer.train()
        return optimizer

    return make


def checked(left, right, shapes=SHAPES):
    return check_optimizer(left, against=right, dtypes=["float64"], updates=10, shapes=shapes)


AGREE = {
    "Lion": (
        partial(kozistr.Lion, lr=1e-2, weight_decay=0.1, weight_decouple=True),
        optax.lion(1e-2, weight_decay=0.1),
    ),
    "ADOPT without clipping": (
        partial(kozistr.ADOPT, lr=1e-2, clip_lambda=None),
        contrib.adopt(1e-2, use_clipping=False),
    ),
    "AdaBelief": (partial(kozistr.AdaBelief, lr=1e-3), optax.adabelief(1e-3)),
    "Yogi": (partial(kozistr.Yogi, lr=1e-2), optax.yogi(1e-2)),
}


@pytest.mark.parametrize("name", AGREE)
def test_a_right_pair_agrees(name):
    result = checked(*AGREE[name])
    assert result.verdict is Verdict.AGREE, result.census()


MISTAKES = {
    "Lion": (partial(kozistr.Lion, lr=1e-2, weight_decay=0.1), optax.lion(1e-2, weight_decay=0.1, b2=0.98)),
    "ADOPT": (partial(kozistr.ADOPT, lr=1e-2), contrib.adopt(1e-2, use_clipping=False)),
    "AdaBelief": (partial(kozistr.AdaBelief, lr=1e-3), optax.adabelief(1e-3, eps_root=0.0)),
    "Yogi": (partial(kozistr.Yogi, lr=1e-2), optax.yogi(1e-2, eps=1e-2)),
    "LAMB": (partial(kozistr.Lamb, lr=1e-2, eps=1e-6), optax.lamb(1e-2)),
}
"""LAMB of pytorch_optimizer does not correct the moments' bias, and clips all gradients to a norm of 1."""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_setting_is_found(name):
    result = checked(*MISTAKES[name])
    assert result.verdict is Verdict.DIFFER
    assert "first update" in result.failed or "many updates" in result.failed


def test_schedule_free_sgd_agrees_where_it_can_be_decided():
    """With zero gradients nothing moves but by rounding."""
    result = checked(training(kozistr.ScheduleFreeSGD, lr=0.1), contrib.schedule_free_sgd(0.1))
    verdicts = {one.check.name: one.verdict for one in result.outcomes}
    assert verdicts.pop("zero gradients") is Verdict.INCONCLUSIVE
    assert set(verdicts.values()) <= {Verdict.AGREE, Verdict.SKIPPED}, result.census()


def test_prodigy_of_optax_divides_zero_by_zero_where_a_gradient_is_zero():
    result = checked(partial(kozistr.Prodigy, lr=1.0, bias_correction=True), contrib.prodigy(1.0))
    assert {"zero gradients", "sparse gradients"} <= set(result.failed)
    assert "for nan" in result.census()


def newton_schulz(monkeypatch, dtype):
    exact = partial(muon.zero_power_via_newton_schulz_5, dtype=dtype, eps=0.0)
    monkeypatch.setattr(muon, "zero_power_via_newton_schulz_5", exact)
    return lambda parameters: kozistr.Muon(
        [{"params": list(parameters), "use_muon": True}], lr=2e-2, weight_decay=0.0
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_first_update_of_muon_differs_by_the_bfloat16_of_its_iteration_alone(dtype, monkeypatch):
    """Which pytorch_optimizer and torch.optim iterate in, Optax in the parameters' dtype. Its momentum is another from the second update on."""
    result = checked(newton_schulz(monkeypatch, dtype), contrib.muon(2e-2, eps=1e-300), {"w": (3, 3)})
    assert result.verdict is Verdict.DIFFER
    assert ("first update" in result.failed) == (dtype is torch.bfloat16), result.census()
    assert "arguments kept" in result.failed
