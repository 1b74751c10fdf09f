"""Pairs of adopted trainers: those that train the same agree, a planted fault differs and is named."""

import itertools
import json

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import ParityError, Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.backends.adoption import AdoptionError
from lockstep.harness.diagnose.diagnosis import Kind
from lockstep.harness.documents.schema import load
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.mapping.link import MappingError
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.report.document import dumps, to_document
from lockstep.harness.verification import adopted
from tests.harness.adopted import models

BATCHES = models.batches()


def sweep(*params):
    """Those that are tested where many alike are."""
    return [pytest.param(one, marks=pytest.mark.sweep) for one in params]


def verified(left, right, *, mapping=models.NAMES, batches=BATCHES, **settings):
    """The verdict, and the diagnosis where there is one."""
    result = adopted.verify([left, right], batches, mapping=mapping, **settings)
    (case,) = result.cases
    return result, next(iter(case.diagnoses), None)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", *sweep("momentum", "adamw")])
def test_torch_and_jax_agree(optimizer):
    result, found = verified(models.torch_side(optimizer), models.jax_side(optimizer), diagnose="all")
    assert result.verdict is Verdict.AGREE, result.census()
    assert found.kind is Kind.NONE
    slots = {"sgd": 0, "momentum": 1, "adam": 3, "adamw": 3}[optimizer]
    assert len(result.comparisons) == 8 + slots * len(models.NAMES)
    assert {row.kind for row in found.ledger.rows if row.verdict is Verdict.AGREE} == {
        *("given", "initial", "state", "forward", "loss", "cotangent", "gradient"),
        *("update", "parameters", "count", "step"),
    }


def test_three_sides_agree_in_float32_too():
    sides = [models.torch_side(), models.jax_side(), models.numpy_side()]
    same = {name: name for name in models.plain_params()}
    result = adopted.verify(sides, BATCHES, mapping=[models.NAMES, models.NAMES])
    assert result.verdict is Verdict.AGREE, result.census()
    assert len(result.comparisons) == 24
    assert adopted.verify(sides[1:], BATCHES, mapping=same).verdict is Verdict.AGREE
    single = [
        models.torch_side("adam", module=models.perceptron(torch.float32)),
        models.jax_side("adam", dtype="float32"),
    ]
    result = adopted.verify(single, models.batches(30), mapping=models.NAMES)
    assert result.verdict is Verdict.AGREE, result.census()


@pytest.mark.slow
def test_where_the_fixed_tolerance_fails_rounding_is_measured():
    """Momentum makes more of rounding than 45 eps in 30 steps: twins say how much, and it agrees; a wrong rate does not."""
    left, settings = models.torch_side("momentum", 0.2), {"steps": 30, "diagnose": "none"}
    right = models.jax_side("momentum", 0.2)
    assert verified(left, right, tolerance="fixed", **settings)[0].verdict is Verdict.DIFFER
    result, _ = verified(left, right, **settings)
    assert result.verdict is Verdict.AGREE, result.census()
    assert "8 disturbed twins" in result.cases[0].tolerance.source
    wrong, _ = verified(left, models.jax_side("momentum", 0.2 * (1 + 1e-9)), **settings)
    assert wrong.verdict is Verdict.DIFFER


def no_bias_gradient(params, x):
    return models.plain({**params, "b1": jax.lax.stop_gradient(params["b1"])}, x)


FAULTS = {
    "learning rate": (
        lambda: models.jax_side(rate=0.11),
        "update",
        "learning rate",
        "1.1 times the reference's",
    ),
    "twice the loss": (
        lambda: models.jax_side(loss=lambda o, y: 2 * models.squared(o, y)),
        "loss",
        "constant ratio",
        "multiplies the loss by 2",
    ),
    "sum": (
        lambda: models.jax_side(loss=lambda o, y: jnp.sum((o - y) ** 2)),
        "loss",
        "constant ratio",
        "multiplies the loss by 8, as many as",
    ),
    "dropped bias gradient": (
        lambda: models.jax_side(model=no_bias_gradient),
        "gradient/2.bias",
        "no gradient",
        "gives 2.bias no gradient",
    ),
    "ascent": (
        lambda: models.jax_side(transform=optax.sgd(-0.1)),
        "update",
        "sign",
        "moves the other way",
    ),
    "masked": (
        lambda: models.jax_side(
            transform=optax.masked(optax.sgd(0.1), {name: name != "b0" for name in models.plain_params()})
        ),
        "update/0.bias",
        "constant ratio",
        "updates 0.bias -10 times as far",  # optax.masked passes on the gradient of what it does not transform
    ),
    "frozen bias": (
        lambda: models.jax_side(
            transform=optax.chain(
                optax.sgd(0.1),
                optax.masked(optax.set_to_zero(), {name: name == "b0" for name in models.plain_params()}),
            )
        ),
        "update/0.bias",
        "parameter never updated",
        "never updates 0.bias",
    ),
    "weight decay": (
        lambda: models.jax_side(transform=optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))),
        "update",
        "weight decay",
        "decays the weights",
    ),
    "another function": (
        lambda: models.jax_side(model=lambda p, x: jax.nn.relu(models.plain(p, x))),
        "forward/output",
        None,
        None,
    ),
}


ALIKE = ("twice the loss", "ascent", "masked", "frozen bias")


@pytest.mark.parametrize("name", [*(one for one in FAULTS if one not in ALIKE), *sweep(*ALIKE)])
def test_a_planted_fault_is_found_and_named(name):
    make, stage, explanation, words = FAULTS[name]
    result, found = verified(models.torch_side(), make())
    assert result.verdict is Verdict.DIFFER
    assert found.first.step == 0
    assert found.first.name.startswith(stage), found.sentence
    assert (found.explanation and found.explanation.name) == explanation, found.sentence
    assert words is None or words in found.sentence, found.sentence


def test_a_fault_of_the_optimizers_state_shows_at_the_second_step():
    _, found = verified(
        models.torch_side("momentum"), models.jax_side(transform=optax.sgd(0.1, momentum=0.8))
    )
    assert (found.first.step, found.first.kind) == (1, "update")


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_frozen_on_one_side_alone(stopped, turned):
    """A parameter here and a buffer there: it is given to both, and its update is compared."""
    module = models.perceptron()
    module[0].bias.requires_grad_(False)
    made = torch.optim.SGD([one for one in module.parameters() if one.requires_grad], lr=0.1)
    left = pytorch.adopt(module, nn.functional.mse_loss, made)
    frozen = lambda p, x: models.plain({**p, "b0": jax.lax.stop_gradient(p["b0"])}, x)  # noqa: E731
    sides = [left, models.jax_side(model=frozen if stopped else models.plain)]
    mapping = Mapping.of(models.NAMES)
    if turned:
        sides.reverse()
        mapping = Mapping.of(
            {one.right: {"to": one.left, "transpose": one.transpose} for one in mapping.links}
        )
    result, found = verified(*sides, mapping=mapping, diagnose="all")
    assert result.verdict is (Verdict.AGREE if stopped else Verdict.DIFFER), result.census()
    if not stopped:
        assert (found.first.step, found.first.name) == (0, "update/b0" if turned else "update/0.bias")


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_a_run_that_trains_nothing_proves_nothing(rate):
    """A loss that depends on no parameter, or a rate of zero: the parameters are those that both were given."""
    scale = 0.0 if rate else 1.0
    left = models.torch_side(rate=rate, loss=lambda o, y: scale * nn.functional.mse_loss(o, y))
    right = models.jax_side(rate=rate, loss=lambda o, y: scale * models.squared(o, y))
    result, _ = verified(left, right)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no step of either side moves any parameter" in result.census()
    if rate:
        with pytest.raises(MappingError, match="is not linked"):
            adopted.verify([left, right], BATCHES)


class Unused(nn.Module):
    """Has a layer that the loss does not see."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = models.perceptron()[0], models.perceptron()[1:]
        self.unused = nn.Linear(2, 1).double()

    def forward(self, x):
        return self.rest(self.first(x))


def test_decay_of_what_has_no_gradient_is_named():
    """torch passes over a parameter that the loss does not see; optax decays it."""
    params = {**models.plain_params(), "u": np.ones((2, 1)), "v": np.ones(1)}
    module = Unused()
    made = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    left = pytorch.adopt(module, nn.functional.mse_loss, made)
    with jax.enable_x64(True):
        transform = optax.adamw(0.1, weight_decay=0.1)
        right = jax_haiku.adopt(models.plain, models.squared, transform, params)
    _, found = verified(left, right, mapping=None)
    assert found.first.step == 0
    assert found.first.name in ("update/unused.bias", "update/unused.weight")
    assert "decays the weights of unused.bias, unused.weight" in found.sentence


def test_a_wrong_mapping_is_named():
    transposed = {**models.NAMES, "2.weight": "w1"}
    _, found = verified(models.torch_side(), models.jax_side(), mapping=transposed)
    assert found.explanation.name == "transposed"
    assert "is given 2.weight transposed by the mapping: w1 has the layout transpose [1, 0]" in found.sentence
    swapped = {**models.NAMES, "0.weight": models.NAMES["2.weight"], "2.weight": models.NAMES["0.weight"]}
    _, found = verified(models.torch_side(), models.jax_side(), mapping=swapped)
    assert found.explanation.name == "swapped"
    assert "is given 0.weight and 2.weight swapped" in found.sentence


def test_assert_parity_raises_with_the_census():
    with pytest.raises(ParityError, match="beyond tolerance"):
        adopted.assert_parity([models.torch_side(), models.jax_side(rate=0.2)], BATCHES, mapping=models.NAMES)
    adopted.assert_parity([models.torch_side(), models.jax_side()], BATCHES, mapping=models.NAMES)


class Forgetful:
    """A trainer that does not say all of its state: its optimizer starts anew wherever it is written."""

    def __init__(self, trainer):
        self._trainer = trainer

    def __getattr__(self, name):
        return getattr(self._trainer, name)

    def read(self, state):
        snapshot = self._trainer.read(state)
        snapshot.optimizer.clear()
        return snapshot


def test_state_that_is_not_carried_is_found():
    """A finding about the trainer; the training of the two is the same, and so is the verdict about it."""
    sides = Forgetful(models.torch_side("momentum")), models.jax_side("momentum")
    result, found = verified(*sides, diagnose="all")
    assert (result.verdict, found.verdict) == (Verdict.AGREE, Verdict.AGREE)
    assert found.sentence.startswith("the whole runs agree within their tolerance")
    found = adopted.diagnose(sides, BATCHES, mapping=models.NAMES)
    assert any(ledger.first for ledger in found.carried.values())
    assert found.verdict is Verdict.DIFFER


def test_what_the_code_raises_is_an_error_of_that_side():
    def loss(output, y):
        raise RuntimeError("no such target")

    result, _ = verified(models.torch_side(loss=loss), models.jax_side())
    assert result.verdict is Verdict.ERROR
    assert "no such target" in result.census()
    found = adopted.diagnose([models.torch_side(loss=loss), models.jax_side()], BATCHES, mapping=models.NAMES)
    assert found.verdict is Verdict.ERROR


@pytest.mark.parametrize("mapping", [None, models.NAMES])
def test_what_fails_before_the_run_is_told_in_three_parts(mapping):
    """A mapping that is to be found takes steps: without one, and without a number, there is none."""

    def loss(output, y):
        raise RuntimeError("no such target")

    sides = [models.torch_side(), models.jax_side(loss=loss)]
    if mapping is None:
        with pytest.raises(AdoptionError, match=r"jax: a step of it fails(.|\n)*no such target(.|\n)*fix"):
            adopted.verify(sides, BATCHES)
    else:
        assert adopted.verify(sides, BATCHES, mapping=mapping).verdict is Verdict.ERROR
    spoilt = [(np.full_like(BATCHES[0][0], np.nan), BATCHES[0][1]), *BATCHES[1:]]
    sides = [models.torch_side(), models.jax_side()]
    if mapping is None:
        with pytest.raises(AdoptionError, match="is not finite"):
            adopted.verify(sides, spoilt)
    else:
        assert adopted.verify(sides, spoilt, mapping=mapping).verdict is Verdict.ERROR


def test_a_report_is_according_to_the_schema():
    result, _ = verified(models.torch_side(), models.jax_side(rate=0.2))
    told_again = json.loads(dumps(to_document(result, manifest())))
    jsonschema.Draft202012Validator(load("report")).validate(told_again)


@pytest.mark.parametrize(
    ("make", "settings", "error", "match"),
    [
        (lambda: [models.torch_side()], {}, AdoptionError, "nothing to compare with"),
        (
            lambda: [models.torch_side(), models.jax_side(dtype="float32")],
            {},
            AdoptionError,
            "different dtypes",
        ),
        (
            lambda: [models.torch_side(), models.jax_side()],
            {"batches": []},
            AdoptionError,
            "nothing to train on",
        ),
        (
            lambda: [models.torch_side(), models.jax_side()],
            {"steps": 0},
            AdoptionError,
            "nothing to train on",
        ),
        (lambda: [models.torch_side(), models.jax_side()], {"batches": [3]}, AdoptionError, "no pair"),
        (
            lambda: [models.torch_side(), models.jax_side()],
            {"mapping": [models.NAMES, models.NAMES]},
            AdoptionError,
            "not as many mappings",
        ),
        (
            lambda: [models.torch_side(), models.jax_side()],
            {"mapping": {"0.bias": "b0"}},
            MappingError,
            "is not linked",
        ),
        (
            lambda: [models.torch_side(), models.jax_side()],
            {"diagnose": "some"},
            AdoptionError,
            "unknown cases",
        ),
        *(
            (lambda: [models.torch_side(), models.jax_side()], settings, AdoptionError, match)
            for settings, match in (
                ({"steps": "3"}, "no number of them"),
                ({"batches": None}, "batches cannot be read"),
                ({"batches": [(*BATCHES[0], BATCHES[0][1])]}, r"no pair(.|\n)*tuple of 3"),
                ({"batches": [({}, BATCHES[0][1])]}, "x has no array"),
                ({"batches": [(["a"], ["b"])]}, "holds no numbers"),
                ({"batches": itertools.cycle(BATCHES)}, r"do not end(.|\n)*--steps"),
            )
        ),
        (lambda: [models.torch_side(), 3], {}, AdoptionError, "this is no trainer"),
        (lambda: models.torch_side(), {}, AdoptionError, "nothing to compare with"),
    ],
)
def test_bad_input_is_refused(make, settings, error, match):
    given = {"batches": BATCHES, "mapping": models.NAMES, **settings}
    with pytest.raises(error, match=match):
        adopted.verify(make(), given.pop("batches"), **given)


def test_batches_that_are_shuffled_anew_are_read_once():
    rng = np.random.default_rng()

    class Shuffled:
        def __iter__(self):
            for x, y in BATCHES:
                rows = rng.permutation(len(x))
                yield x[rows], y[rows]

    result, _ = verified(models.torch_side(), models.jax_side(), batches=Shuffled(), diagnose="all")
    assert result.verdict is Verdict.AGREE, result.census()


def test_the_running_variance_of_n_numbers_is_named():
    """torch keeps the variance of n − 1, Haiku and Flax that of n: the one is not the other's."""

    def model(params, state, x):
        hidden = x @ params["w0"] + params["b0"]
        mean, variance = hidden.mean(0), hidden.var(0)
        normal = (hidden - mean) / jnp.sqrt(variance + 1e-5) * params["s"] + params["o"]
        moved = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * variance}
        return normal @ params["w1"] + params["b1"], moved

    shapes = {"w0": (4, 4), "b0": (4,), "s": (4,), "o": (4,), "w1": (4, 1), "b1": (1,)}
    with jax.enable_x64(True):
        right = jax_haiku.adopt(
            model,
            models.squared,
            optax.sgd(0.1),
            {name: np.ones(shape) for name, shape in shapes.items()},
            state={"mean": np.zeros(4), "var": np.ones(4)},
        )
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    mapping = Mapping.of(
        {
            "0.weight": {"to": "w0", "transpose": [1, 0]},
            "0.bias": "b0",
            "1.weight": "s",
            "1.bias": "o",
            "2.weight": {"to": "w1", "transpose": [1, 0]},
            "2.bias": "b1",
            "1.running_mean": "mean",
            "1.running_var": "var",
        }
    )
    _, found = verified(models.torch_side(module=module), right, mapping=mapping)
    assert found.first.name == "buffers/1.running_var"
    assert "1.running_var divides the squares of 8 numbers by n, not by n − 1" in found.sentence
    kept = verified(models.torch_side(module=module), right, mapping=mapping.without("1.running_var"))[0]
    assert kept.verdict is Verdict.AGREE, kept.census()
