"""A fused query, key and value against three parameters: found in a right port, and in a wrong one linked by names and shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.harness.verification import adopted
from tests.harness.adopted import nets

WIDTH, HEADS, TIME = 4, 2, 3


class Attentive(nn.Module):
    """torch's own attention, whose query, key and value are one parameter, twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"attn": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)}) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, 1)
        for block in self.blocks:
            nn.init.normal_(block["attn"].in_proj_bias)

    def forward(self, x):
        for block in self.blocks:
            x = x + block["attn"](x, x, x, need_weights=False)[0]
        return self.head(x).mean(1)


def separate():
    rng = np.random.default_rng(0)

    def dense(*shape):
        return {"kernel": 0.3 * rng.standard_normal(shape), "bias": 0.3 * rng.standard_normal(shape[-1])}

    blocks = {
        f"blocks_{number}": {
            "attn": {name: dense(WIDTH, WIDTH) for name in ("query", "key", "value", "out_proj")}
        }
        for number in range(2)
    }
    return {**blocks, "head": dense(WIDTH, 1)}


def attend(params, x, scale=1.0):
    def apply(dense, x):
        return x @ dense["kernel"] + dense["bias"]

    def split(x):
        return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)

    for number in range(2):
        attn = params[f"blocks_{number}"]["attn"]
        query, key, value = (split(apply(attn[name], x)) for name in ("query", "key", "value"))
        scores = scale * query @ key.swapaxes(-1, -2) / jnp.sqrt(query.shape[-1])
        mixed = (jax.nn.softmax(scores) @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + apply(attn["out_proj"], mixed)
    return apply(params["head"], x).mean(1)


def batches():
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((4, TIME, WIDTH)), rng.standard_normal((4, 1))) for _ in range(3)]


def pair(reference, **settings):
    sides = [
        nets.torch_side(Attentive()),
        nets.jax_side(separate(), lambda params, x: attend(params, x, **settings)),
    ]
    return sides if reference == "fused" else sides[::-1]


@pytest.mark.parametrize("reference", ["fused", "separate"])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_each_third_is_linked_with_its_own(reference, scale):
    """With another scale of the scores no gradient is the same: the names and shapes of three leave no choice."""
    sides = pair(reference, scale=scale)
    found = adopted.find_mapping(*sides, batches())
    assert not found.open_parameters, found.left_over
    thirds = 0
    for one in found.links:
        fused, (part, other) = (
            (one.left, (one.left_slice, one.right))
            if "in_proj" in one.left
            else (one.right, (one.right_slice, one.left))
        )
        if "in_proj" not in fused:
            continue
        thirds += 1
        assert other.split("/")[2] == ("query", "key", "value")[part[0][0] // WIDTH]
        assert other[len("blocks_")] == fused[len("blocks.")]
        assert "bias" in other or one.transpose == (1, 0)
    assert thirds == 12
    assert bool(found.unconfirmed) is (scale != 1.0)
    case = adopted.verify(sides, batches(), mapping=found).cases[0]
    assert case.verdict is (Verdict.AGREE if scale == 1.0 else Verdict.DIFFER), case.reason
