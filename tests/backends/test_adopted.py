"""Adopted trainers: they train what the bare loop trains, touch nothing of the user's, and observing changes nothing."""

import copy

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

from lockstep.backends import jax_haiku, numpy_vjp, pytorch
from lockstep.backends.adoption import AdoptionError, leaves, mapped
from lockstep.backends.numpy_vjp import add, dot, mean_squared_loss, sgd
from lockstep.backends.problem import Batch
from tests.harness.adopted import models

SIDES = {
    "torch": models.torch_side,
    "torch-adam": lambda: models.torch_side("adam"),
    "jax": models.jax_side,
    "jax-adam": lambda: models.jax_side("adam"),
    "haiku": models.haiku_side,
    "numpy": models.numpy_side,
}
BATCHES = [Batch(*one, {}) for one in models.batches(5)]


@pytest.fixture(params=SIDES)
def side(request):
    return SIDES[request.param]()


def run(trainer, batches=BATCHES, watched=False):
    state, losses = trainer.init(), []
    for batch in batches:
        if watched:
            trainer.observe(state, batch, ("forward", "loss"))
            trainer.predict(state, batch.x)
            trainer.read(state)
        state, loss = trainer.step(state, batch)
        losses.append(np.asarray(loss))
    return np.stack(losses), trainer.read(state)


def same(left, right):
    assert left.step == right.step
    for one, two in (
        (left.parameters, right.parameters),
        (left.optimizer, right.optimizer),
        (left.buffers, right.buffers),
    ):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_observing_changes_no_bit(side):
    losses, end = run(side)
    again, watched = run(side, watched=True)
    assert np.array_equal(losses, again)
    same(end, watched)


def test_read_write_continue_is_the_uninterrupted_run(side):
    _, end = run(side)
    state = side.init()
    for batch in BATCHES:
        state, _ = side.step(side.write(side.init(), side.read(state)), batch)
    same(end, side.read(state))


def test_the_two_halves_are_the_step(side):
    _, end = run(side)
    state = side.init()
    for batch in BATCHES:
        state, _, grads = side.gradients(state, batch)
        state = side.apply(state, side.write_grads(side.read_grads(grads)))
    for name, value in side.read(state).parameters.items():
        np.testing.assert_allclose(value, end.parameters[name], rtol=1e-12)


def test_what_is_read_is_a_copy(side):
    state = side.init()
    first = side.read(state).parameters
    for value in first.values():
        value[...] = 7.0
    assert all((value != 7.0).all() for value in side.read(state).parameters.values())


def test_other_parameters_are_refused(side):
    state = side.init()
    snapshot = side.read(state)
    snapshot.parameters.pop(next(iter(snapshot.parameters)))
    with pytest.raises(AdoptionError, match="not its parameters"):
        side.write(state, snapshot)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_torch_trains_the_bare_loop_and_leaves_it_alone(optimizer):
    module = models.perceptron()
    made = models.optimizers(optimizer, 0.1)[0](module.parameters())
    before = copy.deepcopy(module.state_dict())
    losses, end = run(pytorch.adopt(module, nn.functional.mse_loss, made))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not made.state
    assert all(one.grad is None and not one._backward_hooks for one in module.parameters())
    assert not any(one._forward_hooks for one in module.modules())
    for index, batch in enumerate(BATCHES):
        made.zero_grad()
        loss = nn.functional.mse_loss(module(torch.tensor(batch.x)), torch.tensor(batch.y))
        loss.backward()
        made.step()
        assert losses[index] == loss.item()
    assert all(
        np.array_equal(end.parameters[name], one.detach().numpy()) for name, one in module.named_parameters()
    )


def test_jax_trains_the_bare_loop():
    losses, end = run(models.jax_side("adam"))
    with jax.enable_x64(True):
        params, transform = jax.tree.map(jnp.asarray, models.plain_params()), optax.adam(0.1)
        state = transform.init(params)

        @jax.jit
        def step(params, state, x, y):
            loss, grads = jax.value_and_grad(lambda p: models.squared(models.plain(p, x), y))(params)
            updates, state = transform.update(grads, state, params)
            return optax.apply_updates(params, updates), state, loss

        for index, batch in enumerate(BATCHES):
            params, state, loss = step(params, state, batch.x, batch.y)
            assert losses[index] == loss
    assert all(np.array_equal(end.parameters[name], value) for name, value in params.items())


def test_schedulers_and_clipping_are_part_of_a_step():
    module = models.perceptron()
    made = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(made, step_size=2, gamma=0.5)
    clip = lambda one: nn.utils.clip_grad_norm_(one.parameters(), 0.1)  # noqa: E731
    trainer = pytorch.adopt(module, nn.functional.mse_loss, made, scheduler=scheduler, before_update=clip)
    _, end = run(trainer)
    state = trainer.init()
    for batch in BATCHES:
        state, _ = trainer.step(trainer.write(trainer.init(), trainer.read(state)), batch)
    same(end, trainer.read(state))
    assert state.scheduler.last_epoch == 5
    for batch in BATCHES:
        made.zero_grad()
        nn.functional.mse_loss(module(torch.tensor(batch.x)), torch.tensor(batch.y)).backward()
        clip(module)
        made.step()
        scheduler.step()
    assert all(
        np.array_equal(end.parameters[name], one.detach().numpy()) for name, one in module.named_parameters()
    )


def test_frozen_parameters_and_running_averages_are_buffers():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    module[0].bias.requires_grad_(False)
    made = torch.optim.SGD([one for one in module.parameters() if one.requires_grad], lr=0.1)
    trainer = pytorch.adopt(module, nn.functional.mse_loss, made)
    before = trainer.read(trainer.init())
    _, end = run(trainer)
    assert set(end.buffers) == {"0.bias", "1.running_mean", "1.running_var"}
    assert np.array_equal(end.buffers["0.bias"], before.buffers["0.bias"])
    assert not np.array_equal(end.buffers["1.running_mean"], before.buffers["1.running_mean"])
    assert "0.bias" not in end.parameters


def test_a_parameter_that_the_loss_does_not_see_stays():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            return self.used(x)

    module = Unused().double()
    made = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    trainer = pytorch.adopt(module, nn.functional.mse_loss, made)
    _, end = run(trainer)
    assert np.array_equal(end.parameters["unused.weight"], module.unused.weight.detach().numpy())
    _, _, grads = trainer.gradients(trainer.init(), BATCHES[0])
    assert not trainer.read_grads(grads)["unused.weight"].any()


def test_stages_have_the_users_names():
    torch_stages = models.torch_side().observe(models.torch_side().init(), BATCHES[0], ("forward",))
    assert list(torch_stages) == [f"forward/{one}" for one in (0, 1, 2, 3, 4, "output")]
    side = models.haiku_side()
    assert list(side.observe(side.init(), BATCHES[0], ("forward",))) == [
        "forward/linear",
        "forward/linear_1",
        "forward/linear_2",
        "forward/output",
    ]
    side = models.numpy_side()
    assert "forward/2.tanh" in side.observe(side.init(), BATCHES[0], ("forward",))
    stages = lambda params, x: {"first": x @ params["w0"]}  # noqa: E731
    side = models.jax_side(stages=stages)
    assert list(side.observe(side.init(), BATCHES[0], ("forward",))) == ["forward/first", "forward/output"]


def test_a_module_that_is_called_twice_has_two_stages():
    def forward(x):
        layer = hk.Linear(4)
        return layer(layer(x)).sum(1, keepdims=True)

    model = hk.transform(forward)
    params = model.init(jax.random.PRNGKey(0), jnp.zeros((1, 4)))
    side = jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params)
    batch = Batch(*(one.astype("float32") for one in BATCHES[0][:2]), {})
    assert "forward/linear#1" in side.observe(side.init(), batch, ("forward",))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x)).sum(1, keepdim=True)

    side = models.torch_side(module=Twice().double())
    assert "forward/layer#1" in side.observe(side.init(), BATCHES[0], ("forward",))


@pytest.mark.parametrize("wrapped", ["scan", "vmap", "remat", "unroll"])
def test_what_exists_inside_of_a_loop_alone_is_no_stage(wrapped):
    def forward(x):
        layer = hk.Linear(4, name="inner")
        if wrapped == "unroll":
            outputs, _ = hk.dynamic_unroll(hk.VanillaRNN(4), layer(x)[:, None], jnp.zeros((1, 4)))
            x = outputs[:, 0]
        elif wrapped == "scan":
            x, _ = hk.scan(lambda carry, _: (layer(carry), None), layer(x), None, length=2)
        else:
            x = hk.remat(layer)(layer(x)) if wrapped == "remat" else hk.vmap(layer, split_rng=False)(layer(x))
        return hk.Linear(1, name="outer")(x)

    model = hk.without_apply_rng(hk.transform(forward))
    params = model.init(jax.random.PRNGKey(0), jnp.zeros((2, 4)))
    side = jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params)
    batch = Batch(*(one.astype("float32") for one in BATCHES[0][:2]), {})
    assert list(side.observe(side.init(), batch, ("forward",))) == [
        f"forward/{one}" for one in ("inner", "outer", "output")
    ]


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.last = nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(x))


def test_batch_statistics_of_flax_nnx_are_a_state():
    graph, params, statistics = nnx.split(Normalised(nnx.Rngs(0)), nnx.Param, ...)

    def apply(params, statistics, x):
        module = nnx.merge(graph, params, statistics)
        return module(x), nnx.split(module, nnx.Param, ...)[2]

    side = jax_haiku.adopt(apply, models.squared, optax.sgd(0.1), params, state=statistics)
    before = side.read(side.init()).buffers
    _, end = run(side, [Batch(*(one.astype("float32") for one in each[:2]), {}) for each in BATCHES])
    assert set(end.buffers) == {"norm/mean", "norm/var"}
    assert not any(np.array_equal(value, end.buffers[name]) for name, value in before.items())


def _haiku(with_state, state):
    transform = hk.transform_with_state if with_state else hk.transform
    model = transform(lambda x: hk.Linear(1)(x))
    params = {"linear": {"w": np.ones((4, 1)), "b": np.zeros(1)}}
    return jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params, state=state)


def test_a_model_may_give_the_loss_itself_and_take_trees():
    def loss(params, pair):
        x, y = pair
        return models.squared(models.plain(params, x["x"]), y)

    side = models.jax_side(model=loss, loss=None)
    tree = [Batch({"x": one.x}, one.y, {}) for one in BATCHES]
    assert np.array_equal(run(side, tree)[0], run(models.jax_side())[0])
    module = models.torch_side(forward=lambda module, x: module(x["x"]))
    assert np.array_equal(run(module, tree)[0], run(models.torch_side())[0])


def test_trees():
    tree = {"a": [1, (2, 3)], "b": 4}
    assert leaves(tree) == {"a/0": 1, "a/1/0": 2, "a/1/1": 3, "b": 4}
    assert mapped(lambda one: -one, tree) == {"a": [-1, (-2, -3)], "b": -4}


@pytest.mark.parametrize(
    ("adopt", "match"),
    [
        (
            lambda: models.torch_side(module=models.perceptron(torch.bfloat16)),
            r"of one dtype(.|\n)*bfloat16 \(0.bias\)",
        ),
        (lambda: models.torch_side(module=3), "the module is not valid"),
        (lambda: models.torch_side(loss="mse"), "the loss is not valid"),
        (
            lambda: pytorch.adopt(models.perceptron(), nn.functional.mse_loss, optax.sgd(0.1)),
            "the optimizer is not valid",
        ),
        (
            lambda: pytorch.adopt(models.perceptron(), nn.functional.mse_loss, lambda: 3),
            "makes its optimizer failed",
        ),
        (lambda: models.jax_side(model=3), "the model is not valid"),
        (lambda: _haiku(True, None), "the state of its Haiku transform is not valid"),
        (lambda: _haiku(False, {"mean": np.zeros(1)}), "that has none is not valid"),
        (lambda: models.jax_side(loss="mse"), "the loss is not valid"),
        (lambda: models.jax_side(transform=torch.optim.SGD), "the optimizer is not valid"),
        (
            lambda: pytorch.adopt(
                models.perceptron(),
                nn.functional.mse_loss,
                torch.optim.SGD(models.perceptron().parameters(), lr=0.1),
            ),
            "parameters that the module does not have",
        ),
        (
            lambda: jax_haiku.adopt(models.plain, models.squared, optax.sgd(0.1), {"w": 1.0}),
            "are not arrays",
        ),
        (
            lambda: numpy_vjp.adopt(
                [(dot, "w"), (add, "b")], mean_squared_loss, sgd(0.1), {"w": np.ones((4, 1))}
            ),
            "name different ones",
        ),
    ],
)
def test_what_cannot_be_adopted_is_refused(adopt, match):
    with pytest.raises(AdoptionError, match=match):
        adopt()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda own, other: torch.optim.lr_scheduler.ExponentialLR(other, 0.5),
            "made with another optimizer",
        ),
        (lambda own, other: torch.optim.lr_scheduler.ReduceLROnPlateau(own), "stepped with a metric"),
    ],
)
def test_a_scheduler_that_would_do_nothing_is_refused(make, match):
    module = models.perceptron()
    own, other = (torch.optim.SGD(module.parameters(), lr=0.1) for _ in range(2))
    with pytest.raises(AdoptionError, match=match):
        pytorch.adopt(module, nn.functional.mse_loss, own, scheduler=make(own, other))


def test_what_accumulates_gradients_is_an_optimizer_too():
    side = models.jax_side(transform=optax.MultiSteps(optax.sgd(0.1), 2))
    start, one, two = (
        run(side, BATCHES[:count])[1].parameters["b0"] if count else side.read(side.init()).parameters["b0"]
        for count in range(3)
    )
    assert np.array_equal(start, one)
    assert not np.array_equal(one, two)


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(7, 3, sparse=True), nn.Linear(3, 1)

    def forward(self, x):
        return self.last(self.table(x).mean(1))


def test_sparse_gradients_and_numbers_in_an_optimizers_state():
    """SparseAdam takes no dense gradient, and counts its steps in a number of Python's own."""
    module = Embedding().double()
    made = torch.optim.SparseAdam([module.table.weight], lr=0.1)
    side = pytorch.adopt(module, nn.functional.mse_loss, made)
    rng = np.random.default_rng(0)
    batches = [Batch(rng.integers(0, 7, (6, 4)), rng.standard_normal((6, 1)), {}) for _ in range(4)]
    _, end = run(side, batches)
    assert end.optimizer["step:int/table.weight"] == 4
    state = side.init()
    for batch in batches:
        state, _, grads = side.gradients(side.write(side.init(), side.read(state)), batch)
        assert side.read_grads(grads)["table.weight"].shape == (7, 3)
        state = side.apply(state, side.write_grads(side.read_grads(grads)))
    for name, value in side.read(state).parameters.items():  # a row's gradients are added in another order
        np.testing.assert_allclose(value, end.parameters[name], rtol=1e-12)


def test_what_cannot_be_copied_is_refused():
    module = models.perceptron()
    module.lock = __import__("threading").Lock()
    side = models.torch_side(module=module)
    with pytest.raises(AdoptionError, match="cannot be copied"):
        side.init()


def test_a_seed_makes_dropout_a_function_of_the_step_and_leaves_the_users_generator():
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    side = models.torch_side(module=module, seed=3)
    before = torch.random.get_rng_state()
    losses, end = run(side)
    assert torch.equal(torch.random.get_rng_state(), before)
    again, second = run(side)
    assert np.array_equal(losses, again)
    same(end, second)
    assert not np.array_equal(run(side.redrawn())[0], losses)


class InPlace(nn.Module):
    """Halves its input where it stands, from a call on."""

    def __init__(self, first):
        super().__init__()
        self.layer, self.calls, self.first = nn.Linear(4, 1), 0, first

    def forward(self, x):
        self.calls += 1
        return self.layer(x.mul_(0.5) if self.calls > self.first else x)


def test_a_batch_is_never_changed():
    before = [one.x.copy() for one in BATCHES]
    run(models.torch_side(module=InPlace(first=0).double()))
    with pytest.raises(AdoptionError, match="changes its batch in place"):
        run(
            models.torch_side(module=InPlace(first=1).double()),
            [Batch(one.x.copy(), one.y, {}) for one in BATCHES],
        )
    assert all(np.array_equal(one.x, x) for one, x in zip(BATCHES, before, strict=True))
