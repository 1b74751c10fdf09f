"""A parameter whose gradient is 0 but for rounding, under Adam: it is named, the rest is judged, and no fault passes with it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import optax
import pytest
import torch
from torch import nn

from lockstep import Verdict
from lockstep.backends import jax_haiku, pytorch
from lockstep.harness.adopt.task import Task
from lockstep.harness.core.compare import Comparison
from lockstep.harness.core.ledger import Ledger, Row
from lockstep.harness.core.tolerance import FIXED
from lockstep.harness.diagnose.diagnosis import Diagnosis, Kind
from lockstep.harness.diagnose.noise import above_noise
from lockstep.harness.documents.schema import load
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.report import terminal
from lockstep.harness.report.document import dumps, to_document
from lockstep.harness.verification import adopted
from lockstep.harness.verification.result import Case
from lockstep.harness.verification.unjudged import without_unjudged

LENGTH, WIDTH = 5, 8
NOISE = "0.key.bias"


class Attention(nn.Module):
    """One head, with a bias of the keys, which softmax does not see."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / WIDTH**0.5
        return x + torch.tanh(torch.softmax(scores, -1) @ self.value(x))


def torch_side(dtype="float32", layers=1, eps=1e-8, zeros=False):
    torch.manual_seed(0)
    module = nn.Sequential(*(Attention() for _ in range(layers)), nn.Linear(WIDTH, 1)).to(
        getattr(torch, dtype)
    )
    if zeros:
        nn.init.zeros_(module[0].key.bias)
    return pytorch.adopt(
        module, nn.functional.mse_loss, lambda p: torch.optim.Adam(p, lr=0.01, eps=eps), name="torch"
    )


def dense(params, name, x):
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def jax_side(
    left, *, layers=1, eps=1e-8, scale=WIDTH**-0.5, weights=jax.nn.softmax, extra=0.0, transform=None
):
    """The port of a torch side; `extra` is added to the gradient of the key's bias, and changes no output."""

    def model(params, x):
        for layer in range(layers):
            query, key, value = (dense(params, f"{layer}.{one}", x) for one in ("query", "key", "value"))
            scores = jnp.einsum("bqd,bkd->bqk", query, key) * scale
            x = x + jnp.tanh(jnp.einsum("bqk,bkd->bqd", weights(scores, axis=-1), value))
        bias = params[NOISE].sum() * extra
        return dense(params, str(layers), x) + (bias - jax.lax.stop_gradient(bias))

    params = left.read(left.init()).parameters
    with jax.enable_x64(left.dtype == "float64"):
        return jax_haiku.adopt(
            model, lambda o, y: jnp.mean((o - y) ** 2), transform or optax.adam(0.01, eps=eps), params
        )


def batches(steps=4):
    rng = np.random.default_rng(0)
    rows = (4, LENGTH)
    return [(rng.standard_normal((*rows, WIDTH)), rng.standard_normal((*rows, 1))) for _ in range(steps)]


def verified(left, right, steps=4, **settings):
    names = {name: name for name in left.read(left.init()).parameters}
    return adopted.verify([left, right], batches(steps), mapping=names, **settings)


@pytest.mark.parametrize("diagnose", ["none", "differing"])
def test_the_rest_of_a_right_pair_agrees_and_the_parameter_is_named(diagnose):
    left = torch_side()
    result = verified(left, jax_side(left), diagnose=diagnose)
    assert result.headline == f"AGREE, 1 parameter not judged: {NOISE}", result.census()
    assert f"not judged: {NOISE}: the gradient is 0 but for rounding on both sides" in result.census()
    assert "float64, SGD or a larger epsilon" in result.census()
    assert NOISE not in {one.quantity for one in result.comparisons}
    assert {"loss", "0.key.weight", "0.query.bias", "1.weight"} <= {
        one.quantity for one in result.comparisons
    }
    document = json.loads(dumps(to_document(result, manifest())))
    jsonschema.Draft202012Validator(load("report")).validate(document)
    assert str(terminal.verdict_line(document)).startswith(result.headline)


def test_a_bias_that_begins_with_zeros_is_one_too():
    left = torch_side(zeros=True)
    assert verified(left, jax_side(left)).headline == f"AGREE, 1 parameter not judged: {NOISE}"


def test_several_are_named():
    left = torch_side(layers=2)
    result = verified(left, jax_side(left, layers=2))
    assert result.headline == f"AGREE, 2 parameters not judged: {NOISE}, 1.key.bias", result.census()


def test_who_asks_for_all_gets_no_agreement_about_a_part():
    left = torch_side()
    result = verified(left, jax_side(left), require_all=True)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "could not be judged" in result.cases[0].reason


@pytest.mark.parametrize(("dtype", "eps"), [("float64", 1e-8), ("float32", 1e-3)])
def test_the_remedies_judge_it(dtype, eps):
    left = torch_side(dtype, eps=eps)
    result = verified(left, jax_side(left, eps=eps))
    assert result.headline == "AGREE", result.census()
    assert NOISE in {one.quantity for one in result.comparisons}


def test_float64_needs_a_small_epsilon_to_be_undecided():
    left = torch_side("float64", eps=1e-20)
    assert verified(left, jax_side(left, eps=1e-20)).headline == f"AGREE, 1 parameter not judged: {NOISE}"


def only_for_the_bias(other):
    """Adam, and another one for the key's bias."""
    return optax.multi_transform(
        {"all": optax.adam(0.01), "bias": other},
        lambda params: {name: "bias" if name == NOISE else "all" for name in params},
    )


@pytest.mark.parametrize(
    ("planted", "where"),
    [
        ({"scale": 1.0}, "output"),
        ({"weights": lambda scores, axis: jax.nn.sigmoid(scores)}, "output"),
        ({"extra": 1e-2}, f"gradient of {NOISE}"),
        ({"extra": 1e-5}, f"gradient of {NOISE}"),
        ({"transform": only_for_the_bias(optax.adam(0.02))}, NOISE),
        ({"transform": only_for_the_bias(optax.adamw(0.01, weight_decay=0.1))}, NOISE),
        ({"transform": optax.adam(0.01, b2=0.99)}, ""),
    ],
)
def test_a_planted_fault_is_a_difference(planted, where):
    """Those of the bias alone show in no loss and no other parameter."""
    left = torch_side()
    result = verified(left, jax_side(left, **planted), steps=2)
    assert result.verdict is Verdict.DIFFER, result.census()
    assert where in result.cases[0].diagnoses[0].sentence
    assert "not judged" not in result.headline


def test_a_gradient_above_rounding_on_either_side_is_no_noise():
    rows = [
        Row(0, "gradient/w", Verdict.AGREE, scale=1.0),
        Row(0, "gradient/b", Verdict.INCONCLUSIVE, scale=1e-9, absolute=1e-9),
        Row(0, "gradient/one", Verdict.INCONCLUSIVE, scale=1e-4),
        Row(0, "gradient/other", Verdict.INCONCLUSIVE, scale=1e-9, absolute=1e-4),
        Row(1, "gradient/b", Verdict.AGREE, scale=1e-9),
    ]
    assert [(row.step, row.part) for row in above_noise(rows, "float32")] == [
        (0, "w"),
        (0, "one"),
        (0, "other"),
        (1, "b"),
    ]


def case_of(**verdicts):
    """A case of two sides with a comparison of each name."""
    blank = Comparison("case", "float32", "torch", "jax", "loss", Verdict.AGREE)
    rows = tuple(
        dataclasses.replace(blank, quantity=name, verdict=verdict) for name, verdict in verdicts.items()
    )
    return Case(Task("case", "float32", ()), (), rows, FIXED["float32"])


def diagnosis_of(*rows, verdict=Verdict.AGREE):
    spec = Task("case", "float32", ())
    return Diagnosis(spec, "torch", "jax", verdict, Kind.GROWTH, "", ledger=Ledger(rows))


LOUD = Row(0, "gradient/w", Verdict.AGREE, scale=1.0)
QUIET = Row(0, "gradient/b", Verdict.AGREE, scale=1e-9)


@pytest.mark.parametrize(
    ("rows", "verdict", "apart"),
    [
        ([LOUD, QUIET], Verdict.AGREE, True),
        ([LOUD, QUIET], Verdict.INCONCLUSIVE, True),
        ([LOUD, QUIET], Verdict.DIFFER, False),
        ([LOUD, QUIET], Verdict.ERROR, False),
        ([LOUD], Verdict.AGREE, False),
        ([LOUD, dataclasses.replace(QUIET, scale=1e-3)], Verdict.AGREE, False),
        ([LOUD, QUIET, dataclasses.replace(QUIET, step=1, scale=1.0)], Verdict.AGREE, False),
        ([LOUD, QUIET, Row(1, "gradient/b", Verdict.SKIPPED)], Verdict.AGREE, False),
        ([dataclasses.replace(LOUD, scale=0.0), dataclasses.replace(QUIET, scale=0.0)], Verdict.AGREE, False),
        ([LOUD, QUIET, Row(0, "update/w", Verdict.INCONCLUSIVE, scale=1.0)], Verdict.AGREE, False),
        ([LOUD, QUIET, Row(0, "update/b", Verdict.INCONCLUSIVE, scale=1.0)], Verdict.AGREE, True),
    ],
)
def test_only_rounding_is_taken_out(rows, verdict, apart):
    case = case_of(loss=Verdict.AGREE, w=Verdict.AGREE, b=Verdict.INCONCLUSIVE)
    result = without_unjudged(case, diagnosis_of(*rows, verdict=verdict))
    assert result.verdict is (Verdict.AGREE if apart else Verdict.INCONCLUSIVE)
    assert [one.names for one in result.left_out] == ([("b",)] if apart else [])


@pytest.mark.parametrize(
    "verdicts",
    [
        {"loss": Verdict.INCONCLUSIVE, "b": Verdict.INCONCLUSIVE},
        {"loss": Verdict.AGREE, "w": Verdict.INCONCLUSIVE, "b": Verdict.INCONCLUSIVE},
        {"loss": Verdict.AGREE, "w": Verdict.DIFFER, "b": Verdict.INCONCLUSIVE},
        {"loss": Verdict.AGREE, "seen": Verdict.INCONCLUSIVE, "b": Verdict.INCONCLUSIVE},
    ],
)
def test_where_anything_else_is_open_the_case_stays_as_it_is(verdicts):
    case = case_of(**verdicts)
    assert without_unjudged(case, diagnosis_of(LOUD, QUIET)) is case
