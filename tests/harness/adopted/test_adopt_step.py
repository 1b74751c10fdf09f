"""Whole training steps that cannot be taken apart: trained as the bare loop trains, judged, and faults located."""

import copy
import functools
import types

import equinox
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from flax.training.train_state import TrainState
from torch import nn

import lockstep
from lockstep import Verdict
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Batch
from lockstep.harness.matching.find import find_mapping
from lockstep.harness.verification import adopted
from tests.harness.adopted import models
from tests.harness.adopted.models import squared

STEPS = 5
BATCHES = models.batches(STEPS)
KEY = jax.random.PRNGKey(0)
MSE = nn.functional.mse_loss


def judged(left, right, batches=BATCHES, **settings):
    (case,) = adopted.verify([left, right], batches, **settings).cases
    return case


def agree(left, right, batches=BATCHES):
    """Both ways round."""
    for pair in ((left, right), (right, left)):
        case = judged(*pair, batches)
        assert case.verdict is Verdict.AGREE, (case.reason, [one.sentence for one in case.diagnoses])


def differ(left, right, batches=BATCHES):
    """The diagnosis of a pair that differs."""
    case = judged(left, right, batches)
    assert case.verdict is Verdict.DIFFER
    return case.diagnoses[0]


def run(side, batches=BATCHES):
    """Losses and the final snapshot."""
    state, losses = side.init(), []
    for x, y in batches:
        state, loss = side.step(state, Batch(x.astype(side.dtype), y.astype(side.dtype), {}))
        losses.append(np.asarray(loss))
    return np.stack(losses), side.read(state)


def assert_bits(trained, losses, parameters):
    """That a run has the bare loop's losses and parameters."""
    found, end = trained
    np.testing.assert_array_equal(found, np.array(losses, found.dtype))
    assert end.parameters.keys() == parameters.keys()
    for name, value in parameters.items():
        np.testing.assert_array_equal(end.parameters[name], np.asarray(value))


def resumed(side, batches=BATCHES):
    """The final snapshot of a run whose state went through a snapshot and a fresh state before every step."""
    state = side.init()
    for x, y in batches:
        state = side.write(side.init(), side.read(state))
        state, _ = side.step(state, Batch(x.astype(side.dtype), y.astype(side.dtype), {}))
    return side.read(state)


def assert_resumes(side, batches=BATCHES):
    uninterrupted, again = run(side, batches)[1], resumed(side, batches)
    for kind in ("parameters", "buffers", "optimizer", "extra"):
        ours, theirs = getattr(uninterrupted, kind), getattr(again, kind)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


# A Flax TrainState, jitted, its state donated


class Plain(linen.Module):
    @linen.compact
    def __call__(self, x):
        hidden = linen.tanh(linen.Dense(4, param_dtype=jnp.float64)(x))
        return linen.Dense(1, param_dtype=jnp.float64)(hidden)


def train_state(optimizer=None):
    with jax.enable_x64(True):
        module = Plain()
        params = module.init(KEY, jnp.ones((1, 4)))["params"]
        return TrainState.create(apply_fn=module.apply, params=params, tx=optimizer or optax.adam(0.05))


def train_step(state, batch, change=lambda state, grads: grads):
    x, y = batch
    loss, grads = jax.value_and_grad(lambda params: squared(state.apply_fn({"params": params}, x), y))(
        state.params
    )
    return state.apply_gradients(grads=change(state, grads)), {"loss": loss, "count": len(x)}


def linen_side(optimizer=None, name="linen", change=None):
    step = train_step if change is None else functools.partial(train_step, change=change)
    return lockstep.adopt_step(jax.jit(step, donate_argnums=0), train_state(optimizer), name=name)


def test_a_jitted_step_that_donates_its_state_trains_as_the_bare_loop_and_leaves_the_users_state():
    state = train_state()
    side = lockstep.adopt_step(jax.jit(train_step, donate_argnums=0), state)
    found = run(side)
    losses, step = [], jax.jit(train_step, donate_argnums=0)
    with jax.enable_x64(True):
        for batch in BATCHES:
            state, metrics = step(state, batch)
            losses.append(metrics["loss"])
    named = {
        f"{module}/{name}": value for module, part in state.params.items() for name, value in part.items()
    }
    assert_bits(found, losses, named)
    assert_bits(run(side), losses, named)


def test_a_train_state_resumes_with_its_optimizer_and_its_step():
    side = linen_side()
    assert_resumes(side)
    end = run(side)[1]
    assert set(end.extra) == {"step:leaf"}
    assert "0/mu/Dense_0/kernel" in end.optimizer


def test_a_train_state_agrees_with_itself_and_with_the_same_training_taken_apart():
    agree(linen_side(), linen_side(name="again"))
    agree(linen_side(), lockstep.adopt_jax(train_state(), squared, name="taken apart"))


def test_another_learning_rate_of_a_whole_step_is_named():
    found = differ(linen_side(), linen_side(optax.adam(0.06), "port"))
    assert found.first.step == 0
    assert found.first.kind == "update"
    assert found.explanation.name == "learning rate"
    assert "compared as a whole" in found.sentence


def test_a_whole_step_is_found_wrong_against_one_that_was_taken_apart_whichever_is_the_reference():
    right, wrong = lockstep.adopt_jax(train_state(), squared, name="right"), linen_side(optax.adam(0.06))
    assert differ(right, wrong).explanation.name == "learning rate"
    assert differ(wrong, right).explanation.name == "learning rate"


def doubled_at_step_three(state, grads):
    factor = jnp.where(state.step == 3, 2.0, 1.0)
    return {**grads, "Dense_1": jax.tree.map(lambda one: factor * one, grads["Dense_1"])}


def test_a_fault_of_one_parameter_at_one_step_is_located_there():
    found = differ(linen_side(optax.sgd(0.1)), linen_side(optax.sgd(0.1), "port", doubled_at_step_three))
    assert found.first.step == 3
    assert {row.name for row in found.ledger.blamed if row.kind == "update"} == {
        "update/Dense_1/bias",
        "update/Dense_1/kernel",
    }


def test_a_gradient_that_a_step_stops_is_located_in_the_optimizers_state_of_its_parameter():
    def stopped(state, grads):
        return {**grads, "Dense_0": jax.tree.map(jnp.zeros_like, grads["Dense_0"])}

    found = differ(linen_side(), linen_side(name="port", change=stopped))
    assert (found.first.step, found.first.name) == (0, "optimizer/0/mu/Dense_0/bias")
    assert not any("Dense_1" in row.name for row in found.ledger.blamed if row.step == 0)


def test_a_third_step_votes():
    sides = [linen_side(), linen_side(optax.adam(0.06), "port"), linen_side(name="third")]
    assert adopted.diagnose(sides, BATCHES).culprit.name == "port"


# NNX objects that are moved in place


class Network(nnx.Module):
    def __init__(self, momentum=0.9):
        rngs = nnx.Rngs(0)
        self.first, self.second = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs, momentum=momentum)

    def __call__(self, x):
        return self.second(jnp.tanh(self.norm(self.first(x))))


@nnx.jit
def nnx_step(network, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda network: squared(network(x), y))(network)
    optimizer.update(network, grads)
    return loss


def nnx_objects(momentum=0.9):
    network = Network(momentum)
    return network, nnx.Optimizer(network, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


FLOAT32 = [tuple(one.astype("float32") for one in each) for each in BATCHES]


def test_nnx_objects_train_as_the_bare_loop_and_stay_as_they_are():
    network, optimizer = nnx_objects()
    side = lockstep.adopt_step(nnx_step, (network, optimizer))
    found = run(side)
    losses = [nnx_step(network, optimizer, *batch) for batch in FLOAT32]
    expected = {
        "first/bias": network.first.bias[...],
        "first/kernel": network.first.kernel[...],
        "norm/bias": network.norm.bias[...],
        "norm/scale": network.norm.scale[...],
        "second/bias": network.second.bias[...],
        "second/kernel": network.second.kernel[...],
    }
    assert_bits(found, losses, expected)
    np.testing.assert_array_equal(run(side)[1].buffers["norm/mean"], network.norm.mean[...])
    assert_resumes(side)


def test_nnx_objects_agree_with_the_module_taken_apart_and_another_average_is_found():
    apart = lockstep.adopt_jax(Network(), squared, optax.sgd(0.1, momentum=0.9), name="taken apart")
    agree(apart, lockstep.adopt_step(nnx_step, nnx_objects(), name="step"), FLOAT32)
    found = differ(apart, lockstep.adopt_step(nnx_step, nnx_objects(0.8), name="port"), FLOAT32)
    assert found.first.name in ("buffers/norm/mean", "buffers/norm/var")
    assert found.explanation.name == "running average"


# An Equinox module with Optax, its parts as arguments


def equinox_parts(decay=0.1):
    with jax.enable_x64(True):
        module = equinox.nn.MLP(4, 1, 4, 1, activation=jnp.tanh, key=KEY)
        optimizer = optax.adamw(0.05, weight_decay=decay)
        state = optimizer.init(equinox.filter(module, equinox.is_inexact_array))

    @equinox.filter_jit
    def make_step(module, state, x, y):
        loss, grads = equinox.filter_value_and_grad(lambda one: squared(jax.vmap(one)(x), y))(module)
        updates, state = optimizer.update(grads, state, equinox.filter(module, equinox.is_inexact_array))
        return loss, equinox.apply_updates(module, updates), state

    return make_step, (module, state)


def test_an_equinox_module_trains_as_the_bare_loop():
    step, (module, state) = equinox_parts()
    side, losses = lockstep.adopt_step(step, (module, state)), []
    with jax.enable_x64(True):
        for batch in BATCHES:
            loss, module, state = step(module, state, *batch)
            losses.append(loss)
    named = {
        f"layers/{at}/{kind}": getattr(one, kind)
        for at, one in enumerate(module.layers)
        for kind in ("bias", "weight")
    }
    assert_bits(run(side), losses, named)
    assert_resumes(side)


def test_an_equinox_module_agrees_with_itself_taken_apart_and_another_decay_is_named():
    _, (module, _) = equinox_parts()
    apart = lockstep.adopt_jax(module, squared, optax.adamw(0.05, weight_decay=0.1), name="taken apart")
    agree(apart, lockstep.adopt_step(*equinox_parts(), name="step"))
    assert differ(apart, lockstep.adopt_step(*equinox_parts(0.2), name="port")).explanation.name == (
        "weight decay"
    )


# Plain trees, and which of their leaves are parameters


def by_hand(tree, batch):
    """A step without an optimizer's library: a velocity of each parameter."""
    x, y = batch
    loss, grads = jax.value_and_grad(lambda params: squared(models.plain(params, x), y))(tree["params"])
    velocity = jax.tree.map(lambda old, grad: 0.9 * old + grad, tree["velocity"], grads)
    params = jax.tree.map(lambda one, moved: one - 0.1 * moved, tree["params"], velocity)
    return {"params": params, "velocity": velocity, "steps": tree["steps"] + 1}, loss


def hand_tree(name="params"):
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, models.plain_params())
        return {
            name: params,
            "velocity": jax.tree.map(jnp.zeros_like, params),
            "steps": jnp.zeros((), jnp.int32),
        }


def test_a_step_by_hand_agrees_with_optax_and_its_velocity_is_the_optimizers():
    side = lockstep.adopt_step(by_hand, hand_tree())
    agree(side, models.jax_side("momentum", 0.1, name="optax"))
    end = run(side)[1]
    assert set(end.optimizer) == {f"velocity/{name}" for name in models.plain_params()}
    assert set(end.extra) == {"steps:leaf"}


def test_what_is_not_found_to_be_parameters_is_refused_and_taken_when_said():
    def step(tree, batch):
        tree, loss = by_hand({**tree, "params": tree["weights"]}, batch)
        return {"weights": tree.pop("params"), **tree}, loss

    tree = hand_tree("weights")
    with pytest.raises(
        AdoptionError,
        match=r"it is not clear which leaves of its state are parameters\n.*steps.*\n.*parameters=",
    ):
        lockstep.adopt_step(step, tree)
    ours = run(lockstep.adopt_step(by_hand, hand_tree()))[1].parameters
    for chosen in ("weights", ["weights/w*", "weights/b*"], lambda at: at.startswith("weights/")):
        found = run(lockstep.adopt_step(step, tree, parameters=chosen))[1]
        assert set(found.parameters) == set(ours)
        np.testing.assert_array_equal(found.parameters["w0"], ours["w0"])
    with pytest.raises(AdoptionError, match="it is not clear which"):
        lockstep.adopt_step(step, tree, parameters="wieghts")


def test_the_parts_of_two_networks_keep_their_names():
    def step(state, batch):
        states = {name: train_step(one, batch) for name, one in state.items()}
        return {name: one for name, (one, _) in states.items()}, states["actor"][1]

    side = lockstep.adopt_step(jax.jit(step), {"actor": train_state(), "critic": train_state(optax.sgd(0.1))})
    assert {name.partition("/")[0] for name in run(side)[1].parameters} == {"actor", "critic"}
    assert_resumes(side)


# torch: what a step moves in place


def torch_net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def closure_step(make=lambda p: torch.optim.Adam(p, lr=0.05), name="torch", factor=1.0):
    """A step that has captured what it moves, as in a notebook."""
    module = torch_net()
    optimizer = make(module.parameters())

    def step(batch):
        x, y = batch
        optimizer.zero_grad()
        loss = MSE(module(x), y)
        (factor * loss).backward()
        optimizer.step()
        return loss.item()

    return lockstep.adopt_step(step, {"model": module, "optimizer": optimizer}, name=name)


def test_a_torch_step_agrees_with_the_module_taken_apart():
    module = torch_net()
    apart = lockstep.adopt_torch(module, MSE, torch.optim.Adam(module.parameters(), lr=0.05), name="apart")
    agree(apart, closure_step())
    found = differ(apart, closure_step(lambda p: torch.optim.Adam(p, lr=0.06)))
    assert found.explanation.name == "learning rate"


def test_a_wrong_gradient_in_a_torch_step_is_located_in_the_update_of_its_step():
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    found = differ(closure_step(sgd), closure_step(sgd, "port", factor=1.5))
    assert (found.first.step, found.first.name) == (0, "update/0.bias")
    assert found.explanation.name in ("constant ratio", "learning rate")
    assert "1.5" in found.explanation.description


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (functools.partial(torch.optim.SGD, lr=0.1), optax.sgd(0.1)),
        (functools.partial(torch.optim.Adam, lr=0.05), optax.adam(0.05)),
    ],
    ids=["sgd", "adam"],
)
def test_parameters_of_two_whole_steps_are_matched_by_their_first_updates(ours, theirs):
    """torch and Flax, names that are not alike, no gradients: two layouts of each matrix are possible."""
    left, right = closure_step(ours), linen_side(theirs)
    links = find_mapping(left, right, BATCHES).links
    assert len(links) == 4
    assert all(one.distance < 1e-9 for one in links)
    agree(left, right)


def test_parameters_are_matched_by_their_first_updates_under_another_learning_rate():
    """Square matrices in both layouts, names that say nothing, and updates that are 1.3 times as large."""
    module = models.perceptron()
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)

    def torch_step(state, x, y):
        state[1].zero_grad()
        loss = MSE(state[0](x), y)
        loss.backward()
        state[1].step()
        return loss

    def jax_step(params, state, batch):
        loss, grads = jax.value_and_grad(lambda one: squared(models.plain(one, batch[0]), batch[1]))(params)
        updates, state = transform.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    transform = optax.sgd(0.13)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, models.plain_params())
    left = lockstep.adopt_step(torch_step, [module, sgd])
    right = lockstep.adopt_step(jax_step, (params, transform.init(params)))
    links = find_mapping(left, right, BATCHES).links
    assert {one.left: one.right for one in links} == {
        name: one if isinstance(one, str) else one["to"] for name, one in models.NAMES.items()
    }
    assert all(one.distance < 1e-9 for one in links)


def test_a_wrong_whole_step_is_mapped_and_diagnosed_across_frameworks():
    left = closure_step()
    found = differ(left, linen_side(optax.adam(0.1)))
    assert found.explanation.name == "learning rate"
    found = differ(left, linen_side(optax.adamw(0.05, weight_decay=0.1)))
    assert found.explanation.name == "weight decay"


class Game:
    """Two networks against each other, in an object with a method that trains both."""

    def __init__(self, frozen=False, momentum=0.9):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.generator = nn.Linear(4, 1).double()
            self.critic = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), lr=0.01),
            "critic": torch.optim.SGD(self.critic.parameters(), lr=0.1, momentum=momentum),
        }
        self.frozen, self.rounds = frozen, 0

    def train(self, batch):
        x, y = batch
        self.rounds += 1
        self.optimizers["critic"].zero_grad()
        loss = (self.critic(self.generator(x).detach()) ** 2).mean() + ((self.critic(y) - 1) ** 2).mean()
        loss.backward()
        self.optimizers["critic"].step()
        self.optimizers["generator"].zero_grad()
        fooled = ((self.critic(self.generator(x)) - 1) ** 2).mean()
        (0 * fooled if self.frozen else fooled).backward()
        self.optimizers["generator"].step()
        return loss, fooled


def game_side(name="game", **settings):
    game = Game(**settings)
    return lockstep.adopt_step(game.train, game, name=name)


def test_two_optimizers_train_as_the_bare_loop():
    game = Game()
    side = lockstep.adopt_step(game.train, game)
    found = run(side)
    losses = [game.train(tuple(map(torch.from_numpy, batch)))[0].item() for batch in BATCHES]
    named = {
        f"{network}.{name}": value.detach().numpy()
        for network in ("generator", "critic")
        for name, value in getattr(game, network).named_parameters()
    }
    assert_bits(found, losses, named)
    assert_resumes(side)
    end = found[1]
    assert end.extra["scheduler/rounds:int"] == STEPS
    assert "optimizers.generator.exp_avg/generator.weight" in end.optimizer


def test_two_optimizers_agree_and_each_ones_fault_is_located():
    agree(game_side(), game_side("again"))
    found = differ(game_side(), game_side("port", frozen=True))
    assert found.first.step == 0
    assert "generator." in found.first.name
    found = differ(game_side(), game_side("port", momentum=0.8))
    assert (
        found.first.step == 1
    )  # the generator's gradients of this step are made by the critic after its update
    assert any("critic." in row.name and row.step == 1 for row in found.ledger.blamed)


def lbfgs_side(name="lbfgs", **settings):
    module = torch_net()
    optimizer = torch.optim.LBFGS(module.parameters(), **{"lr": 0.5, "max_iter": 4, **settings})

    def step(state, x, y):
        def closure():
            state["optimizer"].zero_grad()
            loss = MSE(state["model"](x), y)
            loss.backward()
            return loss

        return state["optimizer"].step(closure)

    return lockstep.adopt_step(step, {"model": module, "optimizer": optimizer}, name=name)


def test_a_closure_of_lbfgs_trains_as_the_bare_loop_and_agrees_with_it_taken_apart():
    module = torch_net()
    optimizer = torch.optim.LBFGS(module.parameters(), lr=0.5, max_iter=4)

    def closure(x, y):
        optimizer.zero_grad()
        loss = MSE(module(x), y)
        loss.backward()
        return loss

    losses = []
    for batch in BATCHES:
        losses.append(optimizer.step(functools.partial(closure, *map(torch.from_numpy, batch))).item())
    assert_bits(run(lbfgs_side()), losses, {name: one.detach() for name, one in module.named_parameters()})
    assert_resumes(lbfgs_side())
    module = torch_net()
    optimizer = torch.optim.LBFGS(module.parameters(), lr=0.5, max_iter=4)
    agree(lockstep.adopt_torch(module, MSE, optimizer, name="apart"), lbfgs_side())


def test_a_closure_that_is_evaluated_less_often_is_located_at_its_first_step():
    found = differ(lbfgs_side(), lbfgs_side("port", max_iter=3))
    assert found.first.step == 0
    assert found.first.kind in ("optimizer", "update")


class LitModel(nn.Module):
    """As Lightning has it: a module that says how a step is trained, and with which optimizer and schedule."""

    def __init__(self, gamma=0.5):
        super().__init__()
        self.net, self.gamma = torch_net(), gamma

    def training_step(self, batch, index):
        x, y = batch
        return {"loss": MSE(self.net(x), y)}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, self.gamma)]


def lit_side(name="lit", gamma=0.5, average=True):
    module = LitModel(gamma)
    (optimizer,), (scheduler,) = module.configure_optimizers()
    state = {"model": module, "optimizer": optimizer, "scheduler": scheduler, "index": 0}
    state["average"] = {key: one.detach().clone() for key, one in module.named_parameters()}

    def step(state, batch):
        found = state["model"].training_step(batch, state["index"])
        state["optimizer"].zero_grad()
        found["loss"].backward()
        state["optimizer"].step()
        state["scheduler"].step()
        state["index"] += 1
        for key, one in state["model"].named_parameters():
            state["average"][key].mul_(0.9).add_(one.detach(), alpha=0.1)
        return found

    return lockstep.adopt_step(step, state, name=name)


def test_a_module_as_lightning_has_it_is_carried_with_its_schedule_and_an_average_of_its_weights():
    assert_resumes(lit_side())
    agree(lit_side(), lit_side("again"))
    assert {"scheduler/average:text", "scheduler/index:int", "scheduler/scheduler.last_epoch:int"} <= set(
        run(lit_side())[1].extra
    )


def test_another_schedule_is_located_at_the_first_step_that_it_changes():
    found = differ(lit_side(), lit_side("port", gamma=0.4))
    assert found.first.step == 2
    assert found.first.kind == "update"


def test_gradients_that_are_added_up_over_steps_are_carried():
    module = torch_net()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    state = {"model": module, "optimizer": optimizer, "count": 0}

    def step(state, batch):
        x, y = batch
        loss = MSE(state["model"](x), y)
        loss.backward()
        state["count"] += 1
        if state["count"] % 2 == 0:
            state["optimizer"].step()
            state["optimizer"].zero_grad()
        return loss

    assert_resumes(lockstep.adopt_step(step, state))


# Factories, and the same objects in two trainers


def made_side(make, name="made"):
    return lockstep.adopt_step(make, name=name)


def fresh_game():
    game = Game()
    return game.train, game


def test_what_makes_a_step_anew_trains_as_a_copy_does():
    agree(game_side(), made_side(fresh_game))
    one = fresh_game()
    with pytest.raises(AdoptionError, match="gives the same objects at each call"):
        run(made_side(lambda: one))
    with pytest.raises(AdoptionError, match=r"what its function makes.*\n.*\n.*return \(step, state\)"):
        made_side(lambda: Game())


def test_two_trainers_of_the_same_objects_do_not_move_each_other():
    game = Game()
    one, two = (lockstep.adopt_step(game.train, game, name=name) for name in ("one", "two"))
    before = copy.deepcopy(game.critic.state_dict())
    first = run(one)[0]
    run(two)
    np.testing.assert_array_equal(run(one)[0], first)
    assert all(torch.equal(value, before[name]) for name, value in game.critic.state_dict().items())
    agree(one, two)


# Losses, and what is wrong with a step


class Metric:
    """As Flax' and torchmetrics' metrics are: asked for its value."""

    def __init__(self, value):
        self.value = value

    def compute(self):
        return {"loss": self.value}


def test_a_metric_is_asked_for_its_value():
    def step(state, batch):
        state, metrics = train_step(state, batch)
        return state, (Metric(metrics["loss"]), "unused")

    ours, theirs = lockstep.adopt_step(step, train_state()), lockstep.adopt_step(train_step, train_state())
    np.testing.assert_array_equal(run(ours)[0], run(theirs)[0])


def no_loss(state, batch):
    return train_step(state, batch)[0], {"accuracy": 1.0}


def a_loss_of_each_row(state, batch):
    state, _ = train_step(state, batch)
    return state, jnp.zeros(8)


def other_structure(state, batch):
    state, metrics = train_step(state, batch)
    return state.replace(params={**state.params, "new": jnp.zeros(2)}), metrics


def nothing_new(state, batch):
    return train_step(state, batch)[1]


@pytest.mark.parametrize(
    ("step", "what", "got"),
    [
        (no_loss, "its step returns no loss", "a dict of accuracy"),
        (a_loss_of_each_row, "the loss that its step returns is no scalar", r"shape \(8,\)"),
        (other_structure, "its step returns no state of the form", "params/new: nothing before"),
        (nothing_new, "its step returns no state of the form", "dict"),
    ],
)
def test_a_step_that_returns_something_else_is_refused_with_its_line(step, what, got):
    side = lockstep.adopt_step(step, train_state(), name="mine")
    line = step.__code__.co_firstlineno
    named = rf"mine: {what}.* \({step.__name__}, line {line} of test_adopt_step.py\)\n.*{got}.*\n.*return "
    with pytest.raises(AdoptionError, match=named):
        run(side)
    with pytest.raises(AdoptionError, match=what):
        adopted.verify([side, linen_side()], BATCHES)


def test_a_state_that_was_used_up_before_is_refused():
    state = train_state()
    with jax.enable_x64(True):
        jax.jit(train_step, donate_argnums=0)(state, BATCHES[0])
    if not state.params["Dense_0"]["kernel"].is_deleted():
        pytest.skip("this JAX does not donate on this device")
    with pytest.raises(AdoptionError, match=r"its state was used up\n.*\n.*adopt it before you train"):
        lockstep.adopt_step(train_step, state)


@pytest.mark.parametrize("state", [{"a": 1}, None, {"loss": nn.MSELoss()}], ids=["number", "nothing", "loss"])
def test_a_state_without_parameters_is_refused(state):
    with pytest.raises(
        AdoptionError, match=r"nothing that trains is found in its state\n.*\n.*give the state"
    ):
        lockstep.adopt_step(lambda state, batch: 0.0, state)


def test_a_step_of_other_arguments_is_refused():
    with pytest.raises(AdoptionError, match=r"takes arguments that are not known.*\n.*4 without.*\n.*lambda"):
        lockstep.adopt_step(lambda a, b, c, d: None, train_state())


def test_a_step_that_looks_up_what_it_moves_by_a_global_name_is_refused_with_the_remedy():
    script = types.ModuleType("script")
    script.__dict__.update(model=torch_net(), mse=MSE)
    code = "def step(batch):\n    loss = mse(model(batch[0]), batch[1])\n    return loss\n"
    exec(code, script.__dict__)
    side = lockstep.adopt_step(script.step, script.model)
    with pytest.raises(
        AdoptionError, match=r"would still hold a part of yours\n.*global model.*\n.*step\(state, "
    ):
        side.init()


def test_an_exception_in_a_step_is_reported_with_its_line():
    def step(state, batch):
        raise ValueError("mine")

    with pytest.raises(AdoptionError, match=r"a step of it fails\n.*ValueError: mine.*test_adopt_step.py"):
        adopted.verify([linen_side(), lockstep.adopt_step(step, train_state(), name="broken")], BATCHES)


def test_a_whole_step_has_no_halves():
    for side in (linen_side(), closure_step()):
        with pytest.raises(NotImplementedError, match="cannot be taken apart"):
            side.gradients(side.init(), Batch(*BATCHES[0], {}))


def test_a_recorded_whole_step_is_replayed_by_the_same_training_taken_apart(tmp_path):
    bundle = tmp_path / "bundle"
    lockstep.record_adopted(bundle, closure_step(), BATCHES, stages_at=[1])
    module = torch_net()
    apart = lockstep.adopt_torch(module, MSE, torch.optim.Adam(module.parameters(), lr=0.05))
    assert lockstep.replay_adopted(bundle, apart, BATCHES).verdict is Verdict.AGREE
    wrong = closure_step(lambda p: torch.optim.Adam(p, lr=0.06))
    assert lockstep.replay_adopted(bundle, wrong, BATCHES).verdict is Verdict.DIFFER
