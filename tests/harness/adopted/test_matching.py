"""Mappings that are found: by name, shape and function; what cannot be told apart is left over."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.harness.mapping.link import MappingError
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = models.batches(3)


def links(mapping):
    return {one.left: (one.right, one.transpose) for one in mapping.links}


def test_square_weights_are_told_apart_and_turned_by_function():
    found = adopted.find_mapping(models.torch_side(), models.jax_side(), BATCHES)
    names = {name: one if isinstance(one, str) else one["to"] for name, one in models.NAMES.items()}
    assert {left: right for left, (right, _) in links(found).items()} == names
    assert all(links(found)[name][1] == (1, 0) for name in ("0.weight", "2.weight", "4.weight"))
    assert {one.by for one in found.links} <= {"function", "shape", "module"}
    assert max(one.distance for one in found.links) < 1e-12
    assert not found.left_over


def test_names_that_mislead_are_not_believed():
    """The same names on both sides, for the other layer."""
    params = models.plain_params()
    crossed = {"w1": "w0", "b1": "b0", "w0": "w1", "b0": "b1", "w2": "w2", "b2": "b2"}
    with jax.enable_x64(True):
        right = jax_haiku.adopt(
            lambda p, x: models.plain({theirs: p[ours] for ours, theirs in crossed.items()}, x),
            models.squared,
            optax.sgd(0.1),
            params,
        )
    found = adopted.find_mapping(models.jax_side(), right, BATCHES)
    assert {one.left: one.right for one in found.links} == {theirs: ours for ours, theirs in crossed.items()}


def test_names_are_recorded_where_they_decide():
    found = adopted.find_mapping(models.jax_side(), models.numpy_side(), BATCHES)
    assert {one.by for one in found.links} == {"name"}
    assert adopted.verify([models.jax_side(), models.numpy_side()], BATCHES).verdict is Verdict.AGREE


def test_what_is_alike_is_left_over_with_candidates():
    """Two branches that are summed: which is which makes no difference, and is not guessed."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x) + self.b(x)

    with jax.enable_x64(True):
        right = jax_haiku.adopt(
            lambda p, x: x @ p["u"] + p["s"] + x @ p["v"] + p["t"],
            models.squared,
            optax.sgd(0.1),
            {"u": np.ones((4, 1)), "v": np.ones((4, 1)), "s": np.ones(1), "t": np.ones(1)},
        )
    left = models.torch_side(module=Two().double())
    found = adopted.find_mapping(left, right, BATCHES)
    assert not found.links
    assert {"u", "v"} <= set(found.left_over["left:a.weight"])
    with pytest.raises(MappingError, match="candidates"):
        adopted.verify([left, right], BATCHES)


def test_a_port_with_a_fault_is_mapped_all_the_same():
    """A dropped gradient, another reduction: the mapping is found, and the fault is left to the diagnosis."""
    stopped = lambda p, x: models.plain({**p, "b1": jax.lax.stop_gradient(p["b1"])}, x)  # noqa: E731
    summed = lambda o, y: jnp.sum((o - y) ** 2)  # noqa: E731
    for right in (models.jax_side(model=stopped), models.jax_side(loss=summed)):
        found = adopted.find_mapping(models.torch_side(), right, BATCHES)
        wrong = [
            one
            for one in found.links
            if one.right != (spec if isinstance(spec := models.NAMES[one.left], str) else spec["to"])
        ]
        assert not wrong
        assert len(found.links) >= 5


class Recurrent(nn.Module):
    """An LSTM whose one bias is frozen at what Haiku adds to the forget gate, and a head."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 1)
        self.lstm.bias_ih_l0.requires_grad_(False).zero_()[5:10] = 1.0

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def test_gates_in_another_order_and_concatenated_matrices():
    def unroll(x):
        core = hk.LSTM(5)
        outputs, _ = hk.dynamic_unroll(core, x.transpose(1, 0, 2), core.initial_state(len(x)))
        return hk.Linear(1)(outputs[-1])

    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 4, 3)), rng.standard_normal((6, 1))) for _ in range(3)]
    model = hk.without_apply_rng(hk.transform(unroll))
    with jax.enable_x64(True):
        params = model.init(jax.random.PRNGKey(0), jnp.zeros((6, 4, 3), jnp.float64))
        right = jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params, name="haiku")
    module = Recurrent().double()
    made = torch.optim.SGD([one for one in module.parameters() if one.requires_grad], lr=0.1)
    left = pytorch.adopt(module, nn.functional.mse_loss, made)
    found = adopted.find_mapping(left, right, batches)
    assert not found.open_parameters
    gates = [one.right_slice[-1] for one in found.links if one.left == "lstm.weight_hh_l0"]
    assert gates == [(0, 5), (10, 15), (5, 10), (15, 20)]  # i, f, g, o against i, g, f, o
    result = adopted.verify([left, right], batches, mapping=found)
    assert result.verdict is Verdict.AGREE, result.census()


def normalised_classifier(params, x):
    """Weights in × out, or out × in; no gradient reaches what is before the last matrix while that is constant."""
    w, v = params["w"], params["v"]
    w, v = (w.T, v.T) if w.shape[0] == 4 else (w, v)
    hidden = x @ w
    hidden = (hidden - hidden.mean(0)) / jnp.sqrt(hidden.var(0) + 1e-5) * params["s"] + params["o"]
    return jax.nn.relu(hidden) @ v + params["b"]


def test_a_layout_that_is_not_known_yet_hides_nothing_else():
    """Of 2 channels × 2 or 4 units is only told once units differ, which the classes' matrix must be known for."""

    def side(turned):
        shapes = {"w": (2, 4), "s": (4,), "o": (4,), "v": (4, 3), "b": (3,)}
        names = {"w": "w", "s": "scale", "o": "offset", "v": "v", "b": "b"}
        params = {
            ours if not turned else names[ours]: np.ones(shape[::-1] if turned else shape)
            for ours, shape in shapes.items()
        }
        back = {ours if not turned else names[ours]: ours for ours in shapes}
        with jax.enable_x64(True):
            return jax_haiku.adopt(
                lambda p, x: normalised_classifier({back[name]: one for name, one in p.items()}, x),
                lambda o, y: optax.softmax_cross_entropy_with_integer_labels(o, y).mean(),
                optax.sgd(0.1),
                params,
            )

    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((8, 2)), rng.integers(0, 3, 8))]
    found = adopted.find_mapping(side(False), side(True), batches)
    assert links(found) == {
        "w": ("w", (1, 0)),
        "s": ("scale", None),
        "o": ("offset", None),
        "v": ("v", (1, 0)),
        "b": ("b", None),
    }
    assert not found.left_over


def gated(names, order):
    """Two gates in one array each of input and state, and two biases that do the same."""

    def model(params, pair):
        w_in, w_state, b_in, b_state = (params[name] for name in names)
        gates = jnp.split(pair[0] @ w_in + pair[1] @ w_state + b_in + b_state, 2, axis=-1)
        return jnp.tanh(gates[order[0]]) * jax.nn.sigmoid(gates[order[1]]) @ params["head"]

    shapes = (3, 10), (5, 10), (10,), (10,)
    params = {name: np.ones(shape) for name, shape in zip(names, shapes, strict=True)}
    with jax.enable_x64(True):
        return jax_haiku.adopt(model, models.squared, optax.sgd(0.1), {**params, "head": np.ones((5, 1))})


@pytest.mark.parametrize(
    ("names", "distinguished"),
    [
        (("w_in", "w_rec", "b_in", "b_rec"), True),
        (("w_out", "w_in", "b_out", "b_in"), True),
        (("w_in", "w_rec", "p", "q"), False),
        (("w_in", "w_rec", "q", "p"), False),
    ],
)
def test_fused_biases_that_do_the_same_are_told_by_their_weights_names_or_not_at_all(names, distinguished):
    ours = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    rng = np.random.default_rng(0)
    batches = [((rng.standard_normal((8, 3)), rng.standard_normal((8, 5))), rng.standard_normal((8, 1)))]
    found = adopted.find_mapping(gated(ours, (0, 1)), gated(names, (1, 0)), batches)
    pairs = dict(zip(ours, names, strict=True))
    linked = {(one.left, one.right) for one in found.links}
    expected = ours if distinguished else ours[:2]
    assert linked == {("head", "head"), *((name, pairs[name]) for name in expected)}
    left_over = {name.partition(":")[2] for name in found.left_over}
    assert left_over == (set() if distinguished else {*ours[2:], *names[2:]})
    halves = {one.left_slice[-1]: one.right_slice[-1] for one in found.links if one.left != "head"}
    assert halves == {(0, 5): (5, 10), (5, 10): (0, 5)}


def test_frozen_weights_are_laid_out_by_function():
    """No gradient tells a square one from its transpose, and two of one shape apart: the loss does."""
    module = models.perceptron()
    for one in (module[0].weight, module[2].weight):
        one.requires_grad_(False)
    made = torch.optim.SGD([one for one in module.parameters() if one.requires_grad], lr=0.1)
    left = pytorch.adopt(module, nn.functional.mse_loss, made)
    params = models.plain_params()
    state = {"second": params.pop("w0"), "first": params.pop("w1")}

    def model(params, state, x):
        return models.plain({**params, "w0": state["first"], "w1": state["second"]}, x), state

    with jax.enable_x64(True):
        right = jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params, state=state)
    found = adopted.find_mapping(left, right, models.batches())
    links = {(one.left, one.right, one.transpose) for one in found.links}
    assert links >= {("0.weight", "first", (1, 0)), ("2.weight", "second", (1, 0))}
    assert found.left_over == {}
