"""Hugging Face's own ports, torch against Flax: right pairs, and five mistakes or more planted in each.

The Flax models are the reference, and as they are; mistakes are made on torch's side.
"""

import jax
import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="`make real` installs transformers")

from transformers import logging
from transformers.models.llama import modeling_flax_llama

import lockstep
from lockstep import Verdict
from tests.real import models

logging.set_verbosity_error()


def rotary_in_float64(monkeypatch, module):
    """Both sides' tables: torch rounds the frequencies to float32, Flax the angles."""
    rotary = module.model.rotary_emb
    size = 2 * len(rotary.inv_freq)
    rotary.inv_freq = 1.0 / 10000.0 ** (torch.arange(0, size, 2, dtype=torch.float64) / size)

    def table(positions, size):
        angles = np.outer(np.arange(positions), 1.0 / 10000.0 ** (np.arange(0, size, 2) / size))
        twice = np.concatenate([angles, angles], -1)[:, None, :]
        return jax.numpy.asarray(np.concatenate([np.sin(twice), np.cos(twice)], -1))

    monkeypatch.setattr(modeling_flax_llama, "create_sinusoidal_positions", table)


def pair(name, monkeypatch):
    """The reference, the torch module, and batches."""
    model = models.MODELS[name]()
    module = models.torch_model(model)
    if name == "llama":
        rotary_in_float64(monkeypatch, module)
    return models.flax_side(model), module, models.batches(model)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_right_pair_agrees_and_is_mapped_by_itself(name, monkeypatch):
    reference, module, batches = pair(name, monkeypatch)
    result = lockstep.verify_adopted([reference, models.torch_side(module)], batches)
    assert result.verdict is Verdict.AGREE, result.census()
    parameters = reference.read(reference.init()).parameters
    assert {one.quantity for one in result.comparisons} >= {f"parameter/{one}" for one in parameters} | {
        "loss"
    }


def test_the_tables_of_llama_are_of_float32_on_both_sides_and_each_rounds_another_number():
    model = models.llama()
    result = lockstep.verify_adopted(
        [models.flax_side(model), models.torch_side(models.torch_model(model))], models.batches(model)
    )
    assert result.verdict is Verdict.DIFFER
    (found,) = result.cases[0].diagnoses
    assert found.first.name.endswith("self_attn/o_proj")
    assert found.first.distance < 1e-9


def adamw(**settings):
    return lambda p: torch.optim.AdamW(p, **{"lr": models.RATE, "weight_decay": 0.1, **settings})


def halved(module):
    """A schedule that the other side does not have."""
    optimizer = adamw()(module.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 2 else 0.5)
    return models.torch_side(module, optimizer, scheduler=schedule)


def summed(output, y):
    logits = output.logits.flatten(0, -2)
    return torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="sum")


def frozen(module):
    next(iter(module.parameters())).requires_grad_(False)
    return models.torch_side(module)


def last(module, ends):
    """The last module whose name ends so."""
    return [one for name, one in module.named_modules() if name.endswith(ends)][-1]


def doubled(module):
    """The queries, as where the scale of attention is forgotten."""
    last(module, ("query", "q_proj", "c_attn")).register_forward_hook(
        lambda module, given, output: 2 * output
    )
    return models.torch_side(module)


def another_epsilon(module):
    norm = last(module, ("LayerNorm", "ln_f", "layernorm", "post_attention_layernorm"))
    for name in ("eps", "variance_epsilon"):
        if hasattr(norm, name):
            setattr(norm, name, 1e-3)
    return models.torch_side(module)


def another_activation(module):
    activation = [one for name, one in module.named_modules() if name.endswith(("act_fn", "act"))]
    activation += [one for name, one in module.named_modules() if name.endswith("intermediate_act_fn")]
    activation[-1].forward = torch.relu
    return models.torch_side(module)


EXPLAINED = {
    "weight decay": lambda module: models.torch_side(module, adamw(weight_decay=0.01)),
    "learning rate": halved,
    "constant ratio": lambda module: models.torch_side(module, loss=summed),
    "parameter never updated": frozen,
}
"""Name of the right explanation -> the wrong port."""

LOCATED = {
    "query": (doubled, ("query", "q_proj", "c_attn")),
    "epsilon": (
        another_epsilon,
        ("LayerNorm", "ln_f", "layernorm_after", "layernorm", "post_attention_layernorm"),
    ),
    "activation": (another_activation, ("output/dense", "c_proj", "down_proj", "act")),
}
"""Name -> the wrong port, and how the first stage that differs ends: that of the mistake, or the next that both sides show."""


@pytest.mark.parametrize("mistake", EXPLAINED)
@pytest.mark.parametrize("name", models.MODELS)
def test_a_mistake_of_the_step_is_named(name, mistake, monkeypatch):
    reference, module, batches = pair(name, monkeypatch)
    result = lockstep.verify_adopted([reference, EXPLAINED[mistake](module)], batches)
    assert result.verdict is Verdict.DIFFER
    (found,) = result.cases[0].diagnoses
    assert found.explanation.name == mistake, found.sentence


@pytest.mark.parametrize("mistake", LOCATED)
@pytest.mark.parametrize("name", models.MODELS)
def test_a_mistake_of_the_model_is_located(name, mistake, monkeypatch):
    reference, module, batches = pair(name, monkeypatch)
    wrong, ends = LOCATED[mistake]
    result = lockstep.verify_adopted([reference, wrong(module)], batches)
    assert result.verdict is Verdict.DIFFER
    (found,) = result.cases[0].diagnoses
    assert found.first.name.startswith("forward/"), found.sentence
    assert found.first.name.endswith(ends), found.sentence


def test_resnet_keeps_another_variance_and_trains_the_same():
    """torch keeps the variance of n − 1, Flax that of n: a known convention."""
    model = models.resnet()
    result = lockstep.verify_adopted(
        [models.flax_side(model), models.torch_side(models.torch_model(model))], models.batches(model)
    )
    differing = {one.quantity for one in result.comparisons if one.verdict is Verdict.DIFFER}
    assert result.verdict is Verdict.DIFFER
    assert all(one.endswith("/var") for one in differing), differing
    assert "torch keeps the variance of n − 1" in result.cases[0].diagnoses[0].sentence


def test_bert_of_torch_never_trains_the_row_of_its_padding():
    """`padding_idx=0`: Flax trains it like any other."""
    model = models.bert()
    padded = [(np.concatenate([x[:, :-1], 0 * x[:, -1:]], 1), y) for x, y in models.batches(model)]
    reference, port = models.flax_side(model), models.torch_side(models.torch_model(model))
    found = lockstep.diagnose_adopted([reference, port], padded)
    assert found.verdict is Verdict.DIFFER
    assert found.first.name == "gradient/bert/embeddings/word_embeddings/embedding"
    assert found.first.index[0] == 0
