"""Code of float64 that computes in float32 somewhere: its rounding is no difference of the training, and is said."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import lockstep
from lockstep import Verdict
from lockstep.harness.adopt.remote import isolated
from tests.harness.adopted import models

BATCHES = models.batches()
EPSILON = 1e-6


class Norm(torch.nn.Module):
    """A normalisation as Llama's: in float32, whatever it is given."""

    def __init__(self, dtype=torch.float32, epsilon=EPSILON):
        super().__init__()
        self._dtype, self._epsilon = dtype, epsilon

    def forward(self, x):
        x = x.to(self._dtype)
        return (x / torch.sqrt((x * x).mean(-1, keepdim=True) + self._epsilon)).to(torch.float64)


def torch_norm(*arguments, **settings):
    module = models.perceptron()
    module[1] = Norm(*arguments)
    return models.torch_side(module=module, **settings)


def jax_norm(dtype="float32", epsilon=EPSILON, **settings):
    def model(params, x):
        hidden = (x @ params["w0"] + params["b0"]).astype(dtype)
        hidden = hidden / jnp.sqrt(jnp.mean(hidden**2, -1, keepdims=True) + epsilon)
        hidden = jnp.tanh(hidden.astype("float64") @ params["w1"] + params["b1"])
        return hidden @ params["w2"] + params["b2"]

    return models.jax_side(model=model, **settings)


def verify(*sides, **settings):
    return lockstep.verify_adopted(list(sides), BATCHES, mapping=models.NAMES, **settings)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32"), ("float32", "float32")])
@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.sweep)])
def test_rounding_to_float32_is_named_by_its_lines_and_the_rest_is_judged(dtypes, optimizer):
    left, right = dtypes
    result = verify(
        torch_norm(getattr(torch, left), optimizer=optimizer), jax_norm(right, optimizer=optimizer)
    )
    (case,) = result.cases
    named = {one.backend: one.names for one in case.left_out if one.kind == "float32 computation"}
    assert result.verdict is Verdict.AGREE
    assert named.keys() == {
        name for name, dtype in zip(("torch", "jax"), dtypes, strict=True) if dtype == "float32"
    }
    assert all(
        re.fullmatch(r"test_precision.py:\d+ \(float32\)", one) for each in named.values() for one in each
    )
    assert "1 float32 computation of " in result.headline
    differs = re.search(r"as they are, loss differs by (\S+) of its scale", case.notes[-1])
    assert 1e-10 < float(differs[1]) < 1e-5


def test_asked_for_all_it_is_inconclusive():
    assert verify(torch_norm(), jax_norm("float64"), require_all=True).verdict is Verdict.INCONCLUSIVE


def test_a_mistake_smaller_than_the_rounding_is_found_behind_it():
    """An ε of 1.00001e-6 moves the loss by 1e-12: float32 moves it by 1e-8."""
    result = verify(torch_norm(), jax_norm(epsilon=1.00001 * EPSILON))
    assert result.verdict is Verdict.DIFFER
    (found,) = result.cases[0].diagnoses
    assert found.first.name == "forward/output"
    assert found.first.distance < 1e-10


def test_a_mistake_of_the_optimizer_is_named_in_the_presence_of_rounding():
    result = verify(torch_norm(optimizer="adamw"), jax_norm(transform=optax.adamw(0.1, weight_decay=0.01)))
    assert result.verdict is Verdict.DIFFER
    assert result.cases[0].diagnoses[0].explanation.name == "weight decay"


def test_a_diagnosis_alone_goes_past_it():
    found = lockstep.diagnose_adopted([torch_norm(), jax_norm()], BATCHES, mapping=models.NAMES)
    assert found.verdict is Verdict.AGREE


def test_what_an_optimizer_computes_in_float32_is_part_of_it():
    """As Optax' schedules do, here in each step's rate."""
    with jax.enable_x64(True):
        theirs = models.jax_side(
            transform=optax.sgd(lambda count: jnp.float32(0.1) * jnp.float32(0.9) ** count)
        )
    ours = models.torch_side()
    schedule = torch.optim.lr_scheduler.ExponentialLR
    optimizer = torch.optim.SGD(ours.module.parameters(), lr=0.1)
    loss = torch.nn.functional.mse_loss
    ours = models.pytorch.adopt(ours.module, loss, optimizer, scheduler=schedule(optimizer, 0.9))
    result = verify(ours, theirs)
    assert result.verdict is Verdict.AGREE
    assert "1 float32 computation of jax" in result.headline


def test_nadam_of_torch_keeps_a_product_in_float32():
    """Unless the default dtype is another."""
    ours = models.pytorch.adopt(
        models.perceptron(), torch.nn.functional.mse_loss, lambda p: torch.optim.NAdam(p, lr=0.1)
    )
    double = models.pytorch.adopt(
        models.perceptron(),
        torch.nn.functional.mse_loss,
        lambda p: torch.optim.NAdam(p, lr=0.1),
        name="other",
    )
    batch = lockstep.backends.problem.Batch(*BATCHES[0])
    narrow = ours.narrowed(batch)
    assert {one.place.partition(":")[0] for one in narrow} == {"nadam.py"}
    assert not double.widened().narrowed(batch)


def test_a_task_of_float32_has_none():
    module = models.perceptron(torch.float32)
    module[1] = torch.nn.Identity()
    batches = [(x.astype("float32"), y.astype("float32")) for x, y in BATCHES]
    other = models.torch_side(rate=0.2, module=module, name="other")
    result = lockstep.verify_adopted([models.torch_side(module=module), other], batches)
    assert result.verdict is Verdict.DIFFER
    assert not result.cases[0].left_out


def test_code_that_insists_on_float32_stays_as_it_is_and_that_is_said():
    class Insisting(Norm):
        def forward(self, x):
            low = x.to(torch.float32)
            if low.dtype is not torch.float32:
                raise TypeError("float32 is needed")
            return torch.tanh(low).double()

    module = models.perceptron()
    module[1] = Insisting()
    result = verify(models.torch_side(module=module), models.jax_side())
    assert result.verdict is Verdict.DIFFER
    (note,) = result.cases[0].notes
    assert "cannot be made in float64" in note
    assert "float32 is needed" in note


def test_a_trainer_in_another_process_says_and_does_it_too(tmp_path, monkeypatch):
    (tmp_path / "narrow_side.py").write_text(
        "import torch\n"
        "from lockstep import adopt_torch\n"
        "class Low(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.tanh(x.float()).double()\n"
        "def make():\n"
        "    module = torch.nn.Sequential(torch.nn.Linear(4, 4), Low(), torch.nn.Linear(4, 1)).double()\n"
        "    return adopt_torch(module, torch.nn.functional.mse_loss, lambda p: torch.optim.SGD(p, lr=0.1))\n"
    )
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    result = lockstep.verify_adopted(
        [models.torch_side(module=module, name="here"), isolated("narrow_side:make").trainer], BATCHES
    )
    assert result.verdict is Verdict.AGREE
    assert [one.names for one in result.cases[0].left_out] == [("narrow_side.py:5 (float32)",)]


def test_the_values_on_the_way_are_in_the_order_of_their_computation():
    """Of a Haiku model in float64 throughout, with names that are not in the order of the alphabet."""
    import haiku as hk

    def forward(x):
        x = hk.Linear(models.WIDTH, name="z")(x)
        x = jax.nn.softmax(x.astype(jnp.float32)).astype(x.dtype)
        return hk.Linear(1, name="a")(x)

    model = hk.without_apply_rng(hk.transform(forward))
    with jax.enable_x64(True):
        params = model.init(jax.random.PRNGKey(0), jnp.zeros((1, models.WIDTH), jnp.float64))
    trainer = models.jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params)
    batch = lockstep.backends.problem.Batch(*BATCHES[0])
    for each in (trainer, trainer.widened()):
        stages = each.observe(each.init(), batch, ("forward",))
        assert list(stages) == ["forward/z", "forward/a", "forward/output"]
        assert {np.asarray(one).dtype for one in stages.values()} == {np.dtype("float64")}
