"""Copies of torch code: nothing that the user's objects hold is lost, and nothing is shared with them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lockstep.backends import pytorch
from lockstep.backends.adoption import AdoptionError
from lockstep.backends.problem import Batch
from tests.backends.test_adopted import BATCHES, run, same
from tests.harness.adopted import models

mse = nn.functional.mse_loss


class Clamped(torch.optim.Optimizer):
    """SGD with a setting, and a count, in attributes of its own."""

    def __init__(self, params, lr, limit):
        super().__init__(params, {"lr": lr})
        self.limit, self.count = limit, 0

    @torch.no_grad()
    def step(self):
        self.count += 1
        for group in self.param_groups:
            for one in group["params"]:
                one -= group["lr"] / self.count * one.grad.clamp(-self.limit, self.limit)


class SlowWeights(torch.optim.Optimizer):
    """Lookahead: it wraps another optimizer, whose groups and state are its own, and stores the parameters as they were."""

    def __init__(self, inner, every=2, in_state=False):
        super().__init__([one for group in inner.param_groups for one in group["params"]], {})
        self.inner, self.every, self.count, self.in_state = inner, every, 0, in_state
        self.slow = [] if in_state else [one.detach().clone() for one in self.params]
        for one in self.params if in_state else ():
            self.state[one]["slow"] = one.detach().clone()

    @property
    def params(self):
        return self.param_groups[0]["params"]

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step()
        self.count += 1
        slow = [self.state[one]["slow"] for one in self.params] if self.in_state else self.slow
        for fast, old in zip(self.params, slow, strict=True):
            if self.count % self.every == 0:
                old.lerp_(fast, 0.5)
                fast.copy_(old)


class Perturbed(torch.optim.Optimizer):
    """SAM: the gradient is that at parameters a step uphill."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure):
        params = self.param_groups[0]["params"]
        old = [one.clone() for one in params]
        for one in params:
            one.add_(one.grad, alpha=0.05)
        with torch.enable_grad():
            closure()
        for one, before in zip(params, old, strict=True):
            one.copy_(before - self.param_groups[0]["lr"] * one.grad)


class Moving(nn.Module):
    """Its output depends on buffers that count and on attributes that every forward pass moves."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls, self.rate, self.past, self.hidden = nn.Linear(4, 1), 0, 1.0, (), None
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("odd", torch.tensor(False))

    def forward(self, x):
        self.calls += 1
        self.rate *= 0.9
        self.seen += 1
        self.odd.logical_not_()
        self.past = (*self.past[-2:], self.rate)
        self.stored = output = self.layer(x) * sum(self.past) * (1 + self.calls % 3) / (1 + self.seen)
        if self.odd:
            output = output + 1
        if self.hidden is not None:
            output = output + self.hidden
        self.hidden = output.detach().mean(0)
        return output


class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.mean = AveragedModel(self.net)

    def forward(self, x):
        self.mean.update_parameters(self.net)
        return self.net(x) + 0.1 * self.mean(x).detach()


def of(module, make, **settings):
    return pytorch.adopt(module, mse, make(module.parameters()), **settings)


SIDES = {
    "attributes": lambda: of(models.perceptron(), lambda p: Clamped(p, 0.1, 0.2)),
    "slow weights": lambda: of(models.perceptron(), lambda p: SlowWeights(torch.optim.Adam(p, lr=0.1))),
    "slow weights in the state": lambda: of(
        models.perceptron(), lambda p: SlowWeights(torch.optim.Adam(p, lr=0.1), in_state=True)
    ),
    "lbfgs": lambda: of(models.perceptron(), lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3)),
    "lbfgs with a line search": lambda: of(
        models.perceptron(), lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe")
    ),
    "sam": lambda: of(models.perceptron(), lambda p: Perturbed(p, 0.1)),
    "attributes of a module": lambda: of(Moving().double(), lambda p: torch.optim.SGD(p, lr=0.01)),
    "cumulative average": lambda: of(
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 1)).double(),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ),
    "averaged model": lambda: of(Averaged().double(), lambda p: torch.optim.SGD(p, lr=0.1)),
    "function of parameters": lambda: pytorch.adopt(models.perceptron(), mse, lambda p: Clamped(p, 0.1, 0.2)),
    "function of everything": lambda: pytorch.adopt(everything, mse),
}


def everything():
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    optimizer = Clamped(module.parameters(), 0.1, 0.2)
    return module, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)


@pytest.fixture(params=SIDES)
def side(request):
    return SIDES[request.param]()


def same_extra(left, right):
    same(left, right)
    assert left.extra.keys() == right.extra.keys()
    assert all(np.array_equal(value, right.extra[name]) for name, value in left.extra.items())


def test_a_snapshot_holds_all_that_the_next_step_needs(side):
    _, end = run(side)
    state = side.init()
    for batch in BATCHES:
        state, _ = side.step(side.write(side.init(), side.read(state)), batch)
    same_extra(end, side.read(state))


def test_halves_and_observing_train_the_same(side):
    losses, end = run(side)
    state = side.init()
    for index, batch in enumerate(BATCHES):
        side.observe(state, batch, ("forward", "gradient"))
        state, loss, grads = side.gradients(state, batch)
        assert np.array_equal(np.asarray(loss), losses[index])
        state = side.apply(state, side.write_grads(side.read_grads(grads)))
    same_extra(end, side.read(state))


def test_a_state_goes_back_to_an_older_snapshot(side):
    state = side.init()
    state, _ = side.step(state, BATCHES[0])
    early = side.read(state)
    state, _ = side.step(state, BATCHES[1])
    same_extra(early, side.read(side.write(state, early)))


@pytest.mark.parametrize("name", ["attributes", "slow weights", "lbfgs", "sam"])
def test_it_trains_what_the_bare_loop_trains_and_leaves_it_alone(name):
    made = {
        "attributes": lambda p: Clamped(p, 0.1, 0.2),
        "slow weights": lambda p: SlowWeights(torch.optim.Adam(p, lr=0.1)),
        "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
        "sam": lambda p: Perturbed(p, 0.1),
    }[name]
    module = models.perceptron()
    optimizer = made(module.parameters())
    before = copy.deepcopy(module.state_dict())
    losses, end = run(pytorch.adopt(module, mse, optimizer))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    for index, batch in enumerate(BATCHES):
        x, y = torch.tensor(batch.x), torch.tensor(batch.y)

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = mse(module(x), y)
            loss.backward()
            return loss

        assert losses[index] == closure().item()
        optimizer.step(closure) if name in ("lbfgs", "sam") else optimizer.step()
    for key, one in module.named_parameters():
        assert np.array_equal(end.parameters[key], one.detach().numpy())


def test_functions_that_have_captured_the_originals_see_the_copies():
    def make():
        module = models.perceptron()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        mean = AveragedModel(module)
        optimizer.register_step_post_hook(lambda *_: mean.update_parameters(module))
        clip = lambda _: nn.utils.clip_grad_norm_(module.parameters(), 0.1)  # noqa: E731
        decayed = lambda output, y: mse(output, y) + 0.01 * module[0].weight.square().sum()  # noqa: E731
        return module, optimizer, mean, clip, decayed

    module, optimizer, mean, clip, decayed = make()
    losses, end = run(pytorch.adopt(module, decayed, optimizer, before_update=clip))
    assert mean.n_averaged == 0
    assert all(one.grad is None for one in module.parameters())
    for index, batch in enumerate(BATCHES):
        optimizer.zero_grad()
        loss = decayed(module(torch.tensor(batch.x)), torch.tensor(batch.y))
        assert losses[index] == loss.item()
        loss.backward()
        clip(module)
        optimizer.step()
    for key, one in module.named_parameters():
        assert np.array_equal(end.parameters[key], one.detach().numpy())


def test_attributes_and_hooks_of_parameters_are_kept():
    module = models.perceptron()
    module[0].weight.factor = 0.5
    module[0].weight.register_hook(lambda grad: 0 * grad)
    side = of(module, lambda p: torch.optim.SGD(p, lr=0.1))
    _, end = run(side)
    assert side.init().module[0].weight.factor == 0.5
    assert np.array_equal(end.parameters["0.weight"], module[0].weight.detach().numpy())


def test_tied_parameters_stay_tied():
    module = models.perceptron()
    module[2].weight = module[0].weight
    made = of(module, lambda p: torch.optim.SGD(p, lr=0.1)).init()
    assert made.module[2].weight is made.module[0].weight
    assert made.module[0].weight is not module[0].weight


class Rebuilt(nn.Sequential):
    """Its copy is built anew, as Keras' are: with other tensors than those that a memo knows."""

    def __deepcopy__(self, memo):
        return self.changed(Rebuilt(*(copy.deepcopy(one) for one in self)))

    def changed(self, made):
        return made


class RebuiltDifferently(Rebuilt):
    def changed(self, made):
        with torch.no_grad():
            made[0].weight += 1
        return made


class Uncopied(nn.Sequential):
    def __deepcopy__(self, memo):
        raise AssertionError("does not support deepcopy")


def view(module):
    with torch.no_grad():
        module[2].weight = nn.Parameter(module[0].weight.detach()[:])
    return module


def test_a_module_that_rebuilds_itself_shares_its_parameters_with_the_optimizer():
    stock = models.perceptron()
    losses, end = run(of(Rebuilt(*stock), lambda p: torch.optim.Adam(p, lr=0.1)))
    expected, again = run(of(stock, lambda p: torch.optim.Adam(p, lr=0.1)))
    assert np.array_equal(losses, expected)
    assert losses[0] != losses[-1]
    same(end, again)


ANOTHER = models.perceptron()
MADE = everything()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: of(RebuiltDifferently(*models.perceptron()), plain), "other parameters or buffers"),
        (
            lambda: of(Uncopied(*models.perceptron()), plain),
            "cannot be copied(.|\n)*a function without arguments",
        ),
        (lambda: of(view(models.perceptron()), plain), "does not share the parameters"),
        (
            lambda: of(
                ANOTHER, plain, before_update=lambda _: nn.utils.clip_grad_norm_(ANOTHER.parameters(), 1)
            ),
            r"would still hold a part of yours(.|\n)*before_update \(global ANOTHER\)",
        ),
        (lambda: pytorch.adopt(unlike, mse), "makes another at each call(.|\n)*set the seeds in it"),
        (lambda: pytorch.adopt(lambda: MADE, mse), "gives the same objects"),
    ],
)
def test_a_copy_that_would_not_be_right_is_refused(make, match):
    with pytest.raises(AdoptionError, match=match):
        run(make())


def plain(params):
    return torch.optim.SGD(params, lr=0.1)


def unlike():
    module = models.perceptron()
    with torch.no_grad():
        module[0].weight += float(np.random.default_rng().random())
    return module, plain(module.parameters())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pytorch.adopt(lambda: models.perceptron(), mse), "what its function makes is not valid"),
        (lambda: pytorch.adopt(lambda: (models.perceptron(), 3), mse), "the optimizer is not valid"),
        (lambda: pytorch.adopt(lambda: 1 / 0, mse), "what makes its module failed"),
        (lambda: pytorch.adopt(everything, mse, plain), "the module is not valid"),
        (lambda: pytorch.adopt(models.perceptron(), mse), "the optimizer is not valid"),
    ],
)
def test_what_a_function_makes_is_checked(make, match):
    with pytest.raises(AdoptionError, match=match):
        make()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_keras_model_trains_or_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras was imported with another backend")
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.BatchNormalization()(x)))
    batches = [BATCHES[0]._replace(x=one.x.astype("float32"), y=one.y.astype("float32")) for one in BATCHES]
    made = torch.optim.Adam([one.value for one in model.trainable_variables], lr=0.1)
    losses, _ = run(pytorch.adopt(model, mse, made), batches)
    assert losses[0] != losses[1]
    stack = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made = torch.optim.Adam([one.value for one in stack.trainable_variables], lr=0.1)
    with pytest.raises(
        AdoptionError, match=r"other parameters or buffers(.|\n)*a function without arguments"
    ):
        run(pytorch.adopt(stack, mse, made), batches)


def test_an_attribute_that_begins_as_none_is_none_again_when_its_beginning_is_written():
    """LBFGS keeps how many numbers there are once it has counted them."""
    made = pytorch.adopt(
        nn.Linear(2, 1).double(), nn.functional.mse_loss, lambda p: torch.optim.LBFGS(p, max_iter=2)
    )
    batch = Batch(np.ones((3, 2)), np.zeros((3, 1)))
    start = made.read(made.init())
    state, first = made.step(made.init(), batch)
    state, again = made.step(made.write(state, start), batch)
    assert first == again
