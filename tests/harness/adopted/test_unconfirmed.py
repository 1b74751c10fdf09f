"""A wrong port is diagnosed, not refused: what names, series or shapes leave one candidate for is linked, and called unconfirmed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.harness.mapping.link import MappingError
from lockstep.harness.verification import adopted
from tests.harness.adopted import models, nets

BATCHES = models.batches(3)


def wide_batches():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 4)), rng.standard_normal((8, 3))) for _ in range(3)]


def rows(output, y):
    """A mean that weighs each row by its number."""
    return (torch.arange(8.0)[:, None] * (output - y) ** 2).mean()


LOSSES = {
    "huber": nn.functional.huber_loss,
    "absolute": nn.functional.l1_loss,
    "rows": rows,
    "more": lambda output, y: nn.functional.mse_loss(output, y) + 0.1 * (output**2).mean(),
    "masked": lambda output, y: ((output - y)[1:] ** 2).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("deep", [False, True])
def test_the_same_module_with_another_loss_differs_at_the_loss(name, deep):
    """Not one gradient is the same, and there is still no doubt about which parameter is which."""

    def side(loss):
        layers = (nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) if deep else (nn.Linear(4, 3),)
        return nets.torch_side(nn.Sequential(*layers), loss)

    found = adopted.diagnose([side(nn.functional.mse_loss), side(LOSSES[name])], wide_batches())
    assert found.verdict is Verdict.DIFFER
    assert (found.first.step, found.first.name) == (0, "loss")
    doubt = "the evidence is against the port: through the mapping the outputs of step 0 agree"
    assert (doubt in found.sentence) is ("unconfirmed" in found.sentence)


def huber(output, y):
    off = jnp.abs(output - y)
    return jnp.mean(jnp.where(off < 1, 0.5 * off**2, off - 0.5))


def relu(params, x):
    hidden = jax.nn.relu(jnp.tanh(x @ params["w0"] + params["b0"]) @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


@pytest.mark.parametrize("wrong", [{"loss": huber}, {"model": relu}])
def test_numbers_in_names_and_layouts_of_their_kind_are_what_is_left(wrong):
    """Square matrices, whose gradients say little, under names that differ; of the last the shape says how it lies."""
    left, right = models.torch_side(), models.jax_side(**wrong)
    found = adopted.find_mapping(left, right, BATCHES)
    names = {name: one if isinstance(one, str) else one["to"] for name, one in models.NAMES.items()}
    assert {one.left: one.right for one in found.links} == names
    assert all(one.transpose == (1, 0) for one in found.links if "weight" in one.left)
    assert found.unconfirmed
    assert not found.left_over
    case = adopted.verify([left, right], BATCHES, mapping=found).cases[0]
    assert case.verdict is Verdict.DIFFER
    (note,) = case.notes
    assert note.startswith(
        f"{len(found.unconfirmed)} links unconfirmed: 0.bias to b0 (by series, gradients off by"
    )
    assert note in case.reason
    assert "either the mapping or the port is wrong" in case.diagnoses[0].sentence


def test_names_that_leave_no_choice_are_evidence_against_the_port():
    """The outputs differ, and no stage before them is shown: the names are all that there is."""
    left = nets.torch_side(nets.Net())
    right = nets.jax_side(nets.random(**nets.SHAPES), lambda params, x: nets.net(params, 3 * jnp.abs(x)))
    found = adopted.diagnose([left, right], BATCHES)
    assert "the evidence is against the port: the names leave no choice" in found.sentence


def test_a_right_mapping_is_not_in_doubt():
    left, right = nets.torch_side(nets.Net()), nets.jax_side(nets.random(**nets.SHAPES))
    found = adopted.find_mapping(left, right, BATCHES)
    assert not found.unconfirmed
    assert adopted.verify([left, right], BATCHES, mapping=found).cases[0].notes == ()


def test_what_is_ambiguous_is_refused_with_the_distance_of_each_candidate():
    """Two square matrices under names of their own, in a wrong port: nothing says which is which."""
    params = nets.random(p__x=(4, 4), q__x=(4, 4), out__x=(4, 1))

    def port(params, x):
        return jnp.tanh(jax.nn.relu(x @ params["p"]["x"]) @ params["q"]["x"]) @ params["out"]["x"]

    module = nn.Sequential()
    for name, layer in (
        ("one", nn.Linear(4, 4, False)),
        ("tanh", nn.Tanh()),
        ("two", nn.Linear(4, 4, False)),
    ):
        module.add_module(name, layer)
    module.add_module("three", nn.Linear(4, 1, False))
    left, right = nets.torch_side(module), nets.jax_side(params, port)
    found = adopted.find_mapping(left, right, BATCHES)
    assert found.left_over["left:one.weight"] == ("p/x", "q/x")
    with pytest.raises(
        MappingError, match=r"candidates: p/x \(its gradient is off by [0-9.]+ of itself\), q/x"
    ) as raised:
        adopted.verify([left, right], BATCHES)
    assert "edit the file that `lockstep map -o FILE` writes, or give mapping=" in str(raised.value)
    assert "{'one.weight': 'p/x'}" in str(raised.value)


def test_a_wrong_mapping_never_passes():
    """Two links exchanged that no gradient confirms: what is trained through them differs."""
    left, right = models.torch_side(), models.jax_side()
    names = {**models.NAMES, "0.bias": "b1", "2.bias": "b0"}
    case = adopted.verify([left, right], BATCHES, mapping=names).cases[0]
    assert case.verdict is Verdict.DIFFER
