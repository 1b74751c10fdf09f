"""Buffers and optimizers' states: what has a counterpart is compared, what has none is named in the verdict's first line."""

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
from lockstep.backends.protocol import Snapshot, Trace
from lockstep.harness.adopt.state_names import StateNames
from lockstep.harness.core.compare import Comparison, Run
from lockstep.harness.core.tolerance import FIXED
from lockstep.harness.documents.schema import load
from lockstep.harness.environment.manifest import manifest
from lockstep.harness.mapping.mapping import Mapping
from lockstep.harness.matching.find import find_mapping
from lockstep.harness.report import markdown, summary, terminal
from lockstep.harness.report.document import dumps, to_document
from lockstep.harness.report.html.page import render
from lockstep.harness.verification import adopted
from lockstep.harness.verification.states import compared_states
from tests.harness.adopted import models

BATCHES = models.batches(4, rows=8)


class Normed(nn.Module):
    """A batch norm between two layers."""

    def __init__(self, momentum=0.1, **buffers):
        super().__init__()
        self.fc = nn.Linear(4, 3, bias=False)
        self.bn = nn.BatchNorm1d(3, momentum=momentum)
        self.out = nn.Linear(3, 1)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        return self.out(torch.tanh(self.bn(self.fc(x))))


def normed_torch(momentum=0.1, name="torch", **buffers):
    torch.manual_seed(0)
    module = Normed(momentum, **buffers).double()
    return pytorch.adopt(
        module, nn.functional.mse_loss, torch.optim.SGD(module.parameters(), lr=0.1), name=name
    )


def normed_jax(kept=0.9, rows_less=1, **more):
    """The port: `kept` of the running averages at each step, the variance of the rows less `rows_less`."""

    def model(params, state, x):
        hidden = x @ params["fc"]["kernel"]
        mean, variance = hidden.mean(0), hidden.var(0)
        normal = (hidden - mean) / jnp.sqrt(variance + 1e-5) * params["bn"]["scale"] + params["bn"]["bias"]
        new = {"mean": mean, "var": variance * len(x) / (len(x) - rows_less)}
        moved = {one: kept * state["bn"][one] + (1 - kept) * new[one] for one in new}
        return jnp.tanh(normal) @ params["out"]["kernel"] + params["out"]["bias"], {**state, "bn": moved}

    params = {
        "fc": {"kernel": np.ones((4, 3))},
        "bn": {"scale": np.ones(3), "bias": np.zeros(3)},
        "out": {"kernel": np.ones((3, 1)), "bias": np.zeros(1)},
    }
    state = {"bn": {"mean": np.zeros(3), "var": np.ones(3)}, **more}
    with jax.enable_x64(True):
        return jax_haiku.adopt(model, models.squared, optax.sgd(0.1), params, state=state)


def quantities(result):
    return {one.quantity: one.verdict for one in result.comparisons}


def test_running_averages_of_one_convention_are_compared_and_agree():
    result = adopted.verify([normed_torch(), normed_jax()], BATCHES)
    assert result.verdict is Verdict.AGREE, result.census()
    assert {"bn.running_mean", "bn.running_var"} <= quantities(result).keys()


@pytest.mark.parametrize(
    ("settings", "wrong", "words"),
    [
        (
            {"kept": 0.99},
            {"bn.running_mean", "bn.running_var"},
            "running_mean moves 0.1 times as far, by another",
        ),
        ({"rows_less": 0}, {"bn.running_var"}, "by n, not by n − 1 (a known convention"),
        (
            {"kept": 0.99, "rows_less": 0},
            {"bn.running_mean", "bn.running_var"},
            "running_var moves 0.1 times as far, by another momentum, and divides the squares of 8 numbers by n, not by n − 1",
        ),
    ],
)
def test_what_no_probe_could_match_is_compared_by_name_and_differs(settings, wrong, words):
    result = adopted.verify([normed_torch(), normed_jax(**settings)], BATCHES)
    assert result.verdict is Verdict.DIFFER
    assert {name for name, one in quantities(result).items() if one is Verdict.DIFFER} == wrong
    assert words in result.cases[0].diagnoses[0].sentence


def test_a_buffer_is_matched_by_the_module_whose_parameters_are_linked():
    """No word of the two names is the same but that of its kind."""
    module = nn.Sequential(
        nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1)
    ).double()
    left = pytorch.adopt(module, nn.functional.mse_loss, lambda p: torch.optim.SGD(p, lr=0.1))
    links = find_mapping(left, normed_jax(kept=0.99), BATCHES).links
    assert {("1.running_mean", "bn/mean"), ("1.running_var", "bn/var")} <= {
        (one.left, one.right) for one in links
    }


@pytest.mark.parametrize(("word", "transpose"), [("kernel", (1, 0)), ("weight", None)])
def test_a_square_matrix_that_nothing_computes_with_is_linked_as_its_word_has_it(word, transpose):
    """torch's weight is Flax' kernel transposed; under one word the layout is one."""
    left = normed_torch(weight=torch.ones(2, 2))
    mapping = find_mapping(left, normed_jax(**{word: np.ones((2, 2))}), BATCHES)
    (link,) = [one for one in mapping.links if one.left == "weight"]
    assert (link.right, link.transpose) == (word, transpose)


def test_what_has_no_counterpart_is_named_in_the_first_line():
    sides = [normed_torch(average=torch.ones(5), second=torch.ones(2)), normed_jax(seen=np.zeros(7))]
    result = adopted.verify(sides, BATCHES)
    said = "AGREE, 2 buffers of torch and 1 buffer of jax not compared"
    assert result.verdict is Verdict.AGREE
    assert result.headline == said
    assert result.census().splitlines()[0].startswith(f"{said}: ")
    assert "not compared: 2 buffers of torch: average, second" in result.census()
    document = json.loads(dumps(to_document(result, manifest())))
    jsonschema.Draft202012Validator(load("report")).validate(document)
    assert str(terminal.verdict_line(document)).startswith(said)
    assert markdown.render(document).startswith(f"# Parity: {said}")
    assert summary.render(document).startswith(f"## Lockstep: {said}")
    page = render(document)
    assert "2 buffers of torch and 1 buffer of jax not compared" in page
    assert "not compared: 1 buffer of jax: seen" in page


def test_a_report_of_before_says_nothing_of_it():
    document = to_document(adopted.verify([normed_torch(), normed_jax()], BATCHES), manifest())
    for case in document["cases"]:
        del case["left_out"]
    jsonschema.Draft202012Validator(load("report")).validate(json.loads(dumps(document)))
    assert str(terminal.verdict_line(document)).startswith("AGREE  1 cases")


@pytest.mark.parametrize("buffers", [{}, {"average": torch.ones(5)}])
def test_who_asks_for_all_gets_no_agreement_about_a_part(buffers):
    result = adopted.verify([normed_torch(**buffers), normed_jax()], BATCHES, require_all=True)
    assert result.verdict is (Verdict.INCONCLUSIVE if buffers else Verdict.AGREE)
    assert bool(buffers) == ("some has no counterpart" in result.cases[0].reason)


def ema(decay):
    """An average of the parameters that the optimizer keeps and no step reads."""

    def update(updates, state, params):
        moved = lambda kept, change, old: decay * kept + (1 - decay) * (old + change)  # noqa: E731
        return updates, jax.tree.map(moved, state, updates, params)

    return optax.GradientTransformation(lambda params: params, update)


def counting(by):
    """A counter in the optimizer's state."""
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros((), jnp.int32)},
        lambda updates, state, params=None: (updates, {"count": state["count"] + by}),
    )


def averaged(*transforms, transposed=False):
    """A linear model; `transposed` with other names and the weight the other way round."""
    names = {"w": "kernel", "b": "offset"} if transposed else {"w": "w", "b": "b"}

    def model(params, x):
        weight = params[names["w"]]
        return x @ (weight.T if transposed else weight) + params[names["b"]]

    params = {names["w"]: np.ones((1, 4) if transposed else (4, 1)), names["b"]: np.zeros(1)}
    with jax.enable_x64(True):
        return jax_haiku.adopt(model, models.squared, optax.chain(optax.sgd(0.1), *transforms), params)


LINKS = {"w": {"to": "kernel", "transpose": [1, 0]}, "b": "offset"}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("decay", "verdict"), [(0.9, Verdict.AGREE), (0.5, Verdict.DIFFER)])
def test_what_an_optimizer_keeps_is_compared(transposed, decay, verdict):
    """An average that no step reads: losses and parameters are the same in any case."""
    sides = [averaged(ema(0.9)), averaged(ema(decay), transposed=transposed)]
    result = adopted.verify(sides, BATCHES, mapping=LINKS if transposed else {"w": "w", "b": "b"})
    assert result.verdict is verdict, result.census()
    kept = {name: one for name, one in quantities(result).items() if name.startswith("optimizer/")}
    assert kept == {"optimizer/1/w": verdict, "optimizer/1/b": verdict}
    assert {one for name, one in quantities(result).items() if name not in kept} == {Verdict.AGREE}
    assert result.headline == verdict


@pytest.mark.parametrize(("by", "verdict"), [(1, Verdict.AGREE), (2, Verdict.DIFFER)])
def test_counters_are_compared_exactly(by, verdict):
    result = adopted.verify(
        [averaged(counting(1)), averaged(counting(by))], BATCHES, mapping={"w": "w", "b": "b"}
    )
    assert quantities(result)["optimizer/1/count"] is verdict


def test_a_state_of_another_form_is_left_out_and_named():
    result = adopted.verify([averaged(ema(0.9)), averaged()], BATCHES, mapping={"w": "w", "b": "b"})
    assert result.headline == "AGREE, 2 arrays of the optimizer's state of jax not compared"


@pytest.mark.parametrize(("off", "verdict"), [(1e-17, Verdict.AGREE), (1e-13, Verdict.DIFFER)])
def test_a_moment_of_rounding_alone_is_judged_by_the_largest_of_its_kind(off, verdict):
    """A bias before a batch norm has the gradient 0, and so has its moment: what either side keeps of it is rounding."""

    def run(name, bias):
        parameters = {"fc.weight": np.ones(3), "fc.bias": np.ones(3)}
        moments = {"momentum/fc.weight": np.full(3, 2.0), "momentum/fc.bias": np.full(3, bias)}
        final = Snapshot(parameters, moments, 1)
        return Run("moments", "float64", name, trace=Trace(np.ones(1), final))

    blank = Comparison("moments", "float64", "one", "other", "loss", Verdict.AGREE)
    rows = compared_states(blank, run("one", 1e-17), run("other", 1e-17 + off), FIXED["float64"]).comparisons
    assert {one.quantity: one.verdict for one in rows} == {
        "optimizer/momentum/fc.bias": verdict,
        "optimizer/momentum/fc.weight": Verdict.AGREE,
    }


def test_a_states_name_holds_the_longest_parameters_name():
    mapping = Mapping.of({"w": "kernel", "fc/w": {"to": "fc/kernel", "transpose": [1, 0]}})
    names = StateNames.of(mapping, {"w": (2,), "fc/w": (3, 2)}, {"kernel": (2,), "fc/kernel": (2, 3)})
    own = {"0/mu/fc/kernel": np.arange(6.0).reshape(2, 3), "0/mu/kernel": np.ones(2), "count": np.ones(())}
    ours = names.canonical(own)
    assert {name: one.shape for name, one in ours.items()} == {
        "0/mu/fc/w": (3, 2),
        "0/mu/w": (2,),
        "count": (),
    }
    again = names.own(ours, {name: (one.shape, str(one.dtype)) for name, one in own.items()})
    assert all(np.array_equal(again[name], one) for name, one in own.items())


def test_the_state_of_what_is_linked_in_pieces_keeps_its_name():
    mapping = Mapping.of({"qkv": {"to": ["q", "k"], "axis": 0, "sizes": [2, 2]}})
    names = StateNames.of(mapping, {"qkv": (4,)}, {"q": (2,), "k": (2,)})
    assert set(names.canonical({"mu/q": np.ones(2), "mu/k": np.ones(2)})) == {"mu/q", "mu/k"}
