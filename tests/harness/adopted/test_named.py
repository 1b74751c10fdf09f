"""Names that leave no choice are tried all at once, and the probe confirms them, however deep the net is."""

from functools import partial

import jax
import numpy as np
import pytest

from lockstep.harness.matching.search import Search
from lockstep.harness.matching.signals import Signals
from lockstep.harness.matching.slices import ParameterSlice
from lockstep.harness.verification import adopted
from tests.harness.adopted import models, nets

BATCHES = models.batches(1)


@pytest.mark.parametrize("depth", [2, 8])
def test_a_deep_net_of_square_matrices_is_mapped_in_two_looks(depth, monkeypatch):
    """With constants in all other layers the normalised ones would show no gradient. The second look confirms the whole."""
    looks = []
    look = Search.look
    monkeypatch.setattr(Search, "look", lambda *args, **settings: looks.append(1) or look(*args, **settings))
    left = nets.torch_side(nets.Deep(depth))
    found = adopted.find_mapping(left, nets.jax_side(nets.deep_params(depth), nets.deep), BATCHES)
    assert len(found.links) == 4 * depth + 2
    for one in found.links:
        assert one.right == one.left.replace("blocks.", "blocks_").replace(".", "/").replace(
            "weight", "scale" if "norm" in one.left else "kernel"
        )
        assert one.transpose == ((1, 0) if one.right.endswith("kernel") else None)
        assert one.distance < 1e-9
    assert not found.left_over
    assert len(looks) == 2


WRONG = {"activation": partial(nets.deep, activation=jax.nn.relu), "epsilon": partial(nets.deep, epsilon=1.0)}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("depth", [2, 8])
def test_a_wrong_port_is_mapped_in_as_many_looks_however_deep(wrong, depth, monkeypatch):
    """Names pair everything, and the losses show two functions: the rest is not searched layer by layer."""
    looks = []
    look = Search.look
    monkeypatch.setattr(Search, "look", lambda *args, **settings: looks.append(1) or look(*args, **settings))
    left = nets.torch_side(nets.Deep(depth))
    found = adopted.find_mapping(left, nets.jax_side(nets.deep_params(depth), WRONG[wrong]), BATCHES)
    assert len(found.links) == 4 * depth + 2
    for one in found.links:
        assert one.right.startswith(
            one.left.replace("blocks.", "blocks_").replace(".", "/").rpartition("/")[0]
        )
        assert one.transpose == ((1, 0) if one.right.endswith("kernel") else None)
    assert found.unconfirmed
    assert len(looks) <= 13


def test_arrays_of_other_sizes_are_not_sorted(monkeypatch):
    gradients = {"table": np.ones((2, 1000)), "rows": np.ones((2, 10, 100))}, {"bias": np.ones((2, 8))}
    signals = Signals(*gradients, {}, {}, np.ones((2, 2)))
    sort = np.sort
    monkeypatch.setattr(np, "sort", lambda *args, **settings: pytest.fail("sorted"))
    assert signals.invariant_distance(ParameterSlice("table"), ParameterSlice("bias")) is None
    sorts = []
    monkeypatch.setattr(np, "sort", lambda *args, **settings: sorts.append(1) or sort(*args, **settings))
    same = Signals(gradients[0], gradients[0], {}, {}, np.ones((2, 2)))
    for _ in range(3):
        assert same.invariant_distance(ParameterSlice("table"), ParameterSlice("rows")) == 0.0
    assert len(sorts) == 2


def test_all_gradients_are_looked_through_once(monkeypatch):
    signals = Signals({"a": np.ones((2, 3))}, {"b": np.ones((2, 3))}, {}, {}, np.ones((2, 2)))
    assert signals.least == signals.least == 1e-6
    monkeypatch.setattr(np, "abs", lambda value: pytest.fail("looked through again"))
    assert signals.least == 1e-6
