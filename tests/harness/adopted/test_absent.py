"""What one side has and the other has not: unused, lacking, tied, frozen or left out; named as what it is, and trained all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import lockstep
from lockstep import Verdict
from lockstep.harness.adopt.implementation import implementations
from lockstep.harness.mapping.link import MappingError
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.verification import adopted
from tests.harness.adopted import models, nets

BATCHES = models.batches(3)
UNUSED = "no loss depends on it, it need not be linked"


def verified(left, right):
    """The mapping that is found, and the case that is trained through it."""
    found = adopted.find_mapping(left, right, BATCHES)
    return found, adopted.verify([left, right], BATCHES, mapping=found).cases[0]


def test_what_no_loss_depends_on_need_not_be_on_both_sides():
    left, right = nets.torch_side(nets.Net(unused=True)), nets.jax_side(nets.random(**nets.SHAPES))
    found, case = verified(left, right)
    assert found.left_over == {"left:pool.bias": (UNUSED,), "left:pool.weight": (UNUSED,)}
    assert case.verdict is Verdict.AGREE
    assert case.notes == (
        f"2 parameters not compared: pool.bias of torch: {UNUSED.partition(',')[0]}, pool.weight of torch: "
        f"{UNUSED.partition(',')[0]}",
    )


def test_what_no_loss_depends_on_is_linked_by_name_where_both_have_it():
    right = nets.jax_side(nets.random(**nets.SHAPES, **nets.UNUSED))
    found, case = verified(nets.torch_side(nets.Net(unused=True)), right)
    assert ("pool.weight", "pool/kernel", (1, 0)) in {
        (one.left, one.right, one.transpose) for one in found.links
    }
    assert not found.left_over
    assert not found.unconfirmed
    assert case.verdict is Verdict.AGREE


@pytest.mark.parametrize("lacking", ["left", "right"])
def test_a_bias_that_one_side_lacks_is_named(lacking):
    """All else is mapped, and confirmed: with a bias of zero both sides are the same."""
    shapes = {name: one for name, one in nets.SHAPES.items() if lacking == "left" or name != "fc2__bias"}
    module = nets.Net(bias=lacking == "right")
    found, case = verified(nets.torch_side(module), nets.jax_side(nets.random(**shapes)))
    place, name = (
        ("right:fc2/bias", "fc2/bias of jax: torch")
        if lacking == "left"
        else (
            "left:fc2.bias",
            "fc2.bias of torch: jax",
        )
    )
    assert found.left_over == {
        place: (f"the {lacking} side has no parameter like it, it need not be linked",)
    }
    assert len(found.links) == 3
    assert not found.unconfirmed
    assert case.verdict is Verdict.DIFFER
    assert case.notes == (f"1 parameter not compared: {name} has no parameter like it",)
    assert case.notes[0] in case.reason


def test_what_only_one_side_trains_goes_on_where_its_snapshot_was_taken():
    left, right = nets.torch_side(nets.Net(bias=False)), nets.jax_side(nets.random(**nets.SHAPES))
    found = adopted.find_mapping(left, right, BATCHES)
    task, sides = adopted.prepared([left, right], BATCHES, found, None, "test")
    trainer = implementations(sides)[1].trainer(task)
    state, _ = trainer.step(trainer.init(), task.data[0])
    trained = right.read(state.own).parameters["fc2/bias"]
    assert (trained != right.read(right.init()).parameters["fc2/bias"]).all()
    written = trainer.write(trainer.init(), trainer.read(state))
    assert right.read(written.own).parameters["fc2/bias"] == trained


@pytest.mark.parametrize("reference", ["torch", "jax"])
@pytest.mark.parametrize("tied", ["torch", "jax"])
def test_one_parameter_here_and_two_there_is_called_tied(tied, reference):
    """Both sides are the same where the two are equal; the gradient of the one is the sum of theirs."""
    shapes = nets.CODED | ({"back__kernel": (6, 4)} if tied == "torch" else {})
    sides = [
        nets.torch_side(nets.Coded(tied=tied == "torch")),
        nets.jax_side(nets.random(**shapes), nets.coded),
    ]
    found, case = verified(*(sides if reference == "torch" else sides[::-1]))
    has_one, has_two = ("left", "right") if tied == reference else ("right", "left")
    (place,) = found.left_over
    assert place == f"{has_two}:{'back/kernel' if tied == 'torch' else 'back.weight'}"
    one, two = ("code.weight", "code/kernel") if tied == "torch" else ("code/kernel", "code.weight")
    assert found.left_over[place] == (
        f"the {has_one} side has one parameter, {one}, for this and {two}, it need not be linked",
    )
    own = {"code.weight", "head.weight", "head.bias"}
    if reference == "jax":
        own = {"code/kernel", "head/kernel", "head/bias"}
    assert {one.left for one in found.links} == own
    assert case.verdict is Verdict.DIFFER
    assert "has one parameter" in case.notes[0]


def frozen_in_jax():
    params = nets.random(**nets.SHAPES)
    state = {"fc1": {"kernel": params["fc1"].pop("kernel")}}

    def model(params, state, x):
        return nets.net({**params, "fc1": {**params["fc1"], **state["fc1"]}}, x), state

    return nets.jax_side(params, model, state=state)


@pytest.mark.parametrize("frozen", ["left", "right", "both"])
def test_what_is_frozen_on_one_side_is_linked_to_what_the_other_trains(frozen):
    left = nets.torch_side(nets.Net(frozen=frozen != "right"))
    right = nets.jax_side(nets.random(**nets.SHAPES)) if frozen == "left" else frozen_in_jax()
    found, case = verified(left, right)
    assert ("fc1.weight", "fc1/kernel", (1, 0)) in {
        (one.left, one.right, one.transpose) for one in found.links
    }
    assert not found.left_over
    if frozen == "both":
        assert case.verdict is Verdict.AGREE
    else:
        assert case.diagnoses[0].first.name == "update/fc1.weight"


def test_a_frozen_bias_of_another_name_is_linked_by_its_module():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    module[2].bias.requires_grad_(False)
    port = models.torch_side(module=module)
    rng = np.random.default_rng(0)
    layers = [{"w": rng.standard_normal(one), "b": np.zeros(one[1])} for one in ((4, 4), (4, 1))]

    def model(params, x):
        first, second = params
        return jnp.tanh(x @ first["w"] + first["b"]) @ second["w"] + second["b"]

    with jax.enable_x64(True):
        reference = models.jax_haiku.adopt(model, models.squared, optax.sgd(0.1), layers)
    found = lockstep.find_mapping(reference, port, models.batches())
    assert {one.left: one.right for one in found.links}["1/b"] == "2.bias"
    assert not found.left_over
    result = lockstep.verify_adopted([reference, port], models.batches())
    assert result.cases[0].diagnoses[0].explanation.name == "parameter never updated"


def test_a_gradient_that_is_stopped_is_the_ports_fault_and_not_the_mappings():
    def stopped(params, x):
        fc1 = {**params["fc1"], "kernel": jax.lax.stop_gradient(params["fc1"]["kernel"])}
        return nets.net({**params, "fc1": fc1}, x)

    found, case = verified(nets.torch_side(nets.Net()), nets.jax_side(nets.random(**nets.SHAPES), stopped))
    assert {one.left: one.by for one in found.links}["fc1.weight"] == "loss"
    assert not found.unconfirmed
    assert case.diagnoses[0].first.name == "gradient/fc1.weight"


NAMED = Mapping.of({"fc.w": "fc/w", "ema.fc.w": "ema/fc/w", "ema.fc.b": "ema/fc/b"})
SHAPES = (
    {"fc.w": (3,), "ema.fc.w": (3,), "ema.fc.b": (1,)},
    {"fc/w": (3,), "ema/fc/w": (3,), "ema/fc/b": (1,)},
)


@pytest.mark.parametrize("pattern", [("ema.*",), ("ema/*",), ("ema.fc.w", "ema/fc/b")])
def test_names_and_patterns_of_either_side_are_left_out(pattern):
    rest = NAMED.without(*pattern)
    assert [one.left for one in rest.links] == ["fc.w"]
    assert len(rest.left_over) == 4
    assert not rest.open_parameters
    rest.check(*SHAPES)


def test_a_pattern_that_leaves_nothing_out_is_refused():
    with pytest.raises(MappingError, match="nothing to leave out of the mapping"):
        NAMED.without("emma.*")


def test_what_is_left_out_by_name_is_not_compared():
    """The copy of one side stands still, that of the other does not."""
    left, right = (
        nets.torch_side(nets.Net(unused=True)),
        nets.jax_side(nets.random(**nets.SHAPES, **nets.UNUSED)),
    )
    found = adopted.find_mapping(left, right, BATCHES).without("pool.*")
    case = adopted.verify([left, right], BATCHES, mapping=found).cases[0]
    assert case.verdict is Verdict.AGREE
    assert not case.notes
    assert not [one for one in case.comparisons if "pool" in one.quantity]
    assert np.isfinite(case.runs[1].trace.losses).all()
