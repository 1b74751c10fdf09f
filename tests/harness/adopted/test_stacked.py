"""Layers in one stack on one side, one by one on the other: found, trained both ways, and in a wrong port linked all the same."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.harness.verification import adopted
from tests.harness.adopted import models, nets

BATCHES = models.batches(3)
DEPTH = 3


class Listed(nn.Module):
    """Residual blocks, one after the other."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(4), "up": nn.Linear(4, 6), "down": nn.Linear(6, 4)})
            for _ in range(DEPTH)
        )
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer["down"](torch.tanh(layer["up"](layer["norm"](x))))
        return self.head(x)


SHAPES = {
    "norm": {"scale": (4,), "bias": (4,)},
    "up": {"kernel": (4, 6), "bias": (6,)},
    "down": {"kernel": (6, 4), "bias": (4,)},
}


def stacked(axis=0, names=lambda name: name):
    rng = np.random.default_rng(0)

    def of(shape):
        at = min(axis, len(shape))
        return rng.standard_normal((*shape[:at], DEPTH, *shape[at:]))

    layers = {
        names(module): {kind: of(shape) for kind, shape in kinds.items()} for module, kinds in SHAPES.items()
    }
    head = {"kernel": rng.standard_normal((4, 1)), "bias": rng.standard_normal(1)}
    return {"layers": layers, names("head"): head}


def scanned(params, x, axis=0, activation=jnp.tanh, names=lambda name: name):
    """`lax.scan` over the layers."""

    def layer(x, one):
        norm, up, down = (one[names(name)] for name in ("norm", "up", "down"))
        centred = x - x.mean(-1, keepdims=True)
        normed = (
            centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * norm["scale"] + norm["bias"]
        )
        return x + activation(normed @ up["kernel"] + up["bias"]) @ down["kernel"] + down["bias"], None

    leading = jax.tree.map(lambda one: jnp.moveaxis(one, min(axis, one.ndim - 1), 0), params["layers"])
    x, _ = jax.lax.scan(layer, x, leading)
    head = params[names("head")]
    return x @ head["kernel"] + head["bias"]


def pair(reference, **settings):
    listed = nets.torch_side(Listed())
    made = {name: settings.pop(name) for name in ("axis", "names") if name in settings}
    other = nets.jax_side(stacked(**made), lambda params, x: scanned(params, x, **made, **settings))
    return [listed, other] if reference == "list" else [other, listed]


def pieces(found):
    """(name of the list, index in the stack), whichever side is which."""
    for one in found.links:
        listed, stack, index = (
            (one.left, one.right, one.right_slice)
            if "." in one.left
            else (one.right, one.left, one.left_slice)
        )
        yield listed, stack, index


@pytest.mark.parametrize("reference", ["list", "stack"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_scan_over_layers_agrees_with_a_list_of_layers(reference, axis):
    """The stack's axis is the first, or another one, which is dropped."""
    sides = pair(reference, axis=axis)
    found = adopted.find_mapping(*sides, BATCHES)
    assert not found.left_over
    assert not found.unconfirmed
    assert max(one.distance for one in found.links) < 1e-9
    for listed, stack, index in pieces(found):
        if listed.startswith("layers."):
            _, number, module, _ = listed.split(".")
            assert index[-1] == (int(number), int(number) + 1)
            assert stack.startswith(f"layers/{module}/")
    result = adopted.verify(sides, BATCHES, mapping=found)
    assert result.verdict is Verdict.AGREE, result.census()


FLAX = {"norm": "LayerNorm_0", "up": "up", "down": "down", "head": "head"}


@pytest.mark.parametrize("reference", ["list", "stack"])
@pytest.mark.parametrize("names", [{name: name for name in FLAX}, FLAX])
def test_a_wrong_port_is_linked_by_names_and_differs(reference, names):
    """Where one name is another, its kind and size leave no choice."""
    sides = pair(reference, activation=jax.nn.relu, names=names.get)
    found = adopted.find_mapping(*sides, BATCHES)
    assert not found.left_over
    assert found.unconfirmed
    for listed, stack, index in pieces(found):
        if listed.startswith("layers."):
            assert index[-1][0] == int(listed.split(".")[1])
            assert stack.split("/")[1] == names[listed.split(".")[2]]
    case = adopted.verify(sides, BATCHES, mapping=found).cases[0]
    assert case.verdict is Verdict.DIFFER
    evidence = "the port" if names["norm"] == "norm" else "neither"
    assert f"the evidence is against {evidence}" in case.diagnoses[0].sentence


def test_names_that_say_nothing_leave_it_to_sizes_and_gradients():
    """Two stacks of one size, of biases: which is which is seen."""
    other = {"norm": "a", "up": "b", "down": "c", "head": "d"}
    sides = pair("list", names=other.get)
    found = adopted.find_mapping(*sides, BATCHES)
    assert not found.left_over, found.left_over
    result = adopted.verify(sides, BATCHES, mapping=found)
    assert result.verdict is Verdict.AGREE, result.census()


def test_an_ensemble_that_is_mapped_over_agrees_with_a_list_of_its_members():
    """Equinox' `filter_vmap` of a whole network: every leaf has the members as its first axis."""

    class Ensemble(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.members = nn.ModuleList(
                nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 1)])}) for _ in range(3)
            )

        def forward(self, x):
            hidden = [torch.relu(one["layers"][0](x)) for one in self.members]
            outputs = [one["layers"][1](h) for one, h in zip(self.members, hidden, strict=True)]
            return torch.stack(outputs).pow(3).mean(0)

    with jax.enable_x64(True):
        made = eqx.filter_vmap(lambda key: eqx.nn.MLP(4, 1, 5, 1, key=key, dtype=jnp.float64))
        members = made(jax.random.split(jax.random.PRNGKey(0), 3))
        arrays, static = eqx.partition(members, eqx.is_inexact_array)

    def forward(params, x):
        ensemble = eqx.combine(params, static)
        outputs = eqx.filter_vmap(lambda one: jax.vmap(one)(x))(ensemble)
        return (outputs**3).mean(0)

    sides = [nets.torch_side(Ensemble()), nets.jax_side(arrays, forward)]
    found = adopted.find_mapping(*sides, BATCHES)
    assert len(found.links) == 12
    assert not found.left_over
    result = adopted.verify(sides, BATCHES, mapping=found)
    assert result.verdict is Verdict.AGREE, result.census()
