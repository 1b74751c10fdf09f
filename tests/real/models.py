"""Tiny configurations of Hugging Face's models, in torch and in Flax, with batches; nothing is downloaded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from flax import linen

import lockstep

SMALL: dict[str, Any] = {"attn_implementation": "eager"}
LAYERS: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
TEXT = SMALL | {"vocab_size": 11}
RATE = 1e-2


def words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(1, 11, shape)


@dataclass(frozen=True)
class Model:
    """One architecture.

    Attributes:
        config: its settings.
        torch, flax: the two classes.
        batch: (rng) -> x, y.
    """

    config: Any
    torch: Any
    flax: Any
    batch: Any


def bert() -> Model:
    config = transformers.BertConfig(
        **TEXT,
        **LAYERS,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    classes = transformers.BertForSequenceClassification, transformers.FlaxBertForSequenceClassification
    return Model(config, *classes, lambda rng: (words(rng, 4, 6), rng.integers(0, 3, 4)))


def gpt2() -> Model:
    config = transformers.GPT2Config(
        **TEXT,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=8,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    classes = transformers.GPT2LMHeadModel, transformers.FlaxGPT2LMHeadModel
    return Model(config, *classes, lambda rng: (words(rng, 4, 6), words(rng, 4, 6)))


def llama() -> Model:
    config = transformers.LlamaConfig(
        **TEXT,
        **LAYERS,
        num_key_value_heads=2,
        max_position_embeddings=8,
        use_cache=False,
    )
    classes = transformers.LlamaForCausalLM, transformers.FlaxLlamaForCausalLM
    return Model(config, *classes, lambda rng: (words(rng, 4, 6), words(rng, 4, 6)))


def vit() -> Model:
    config = transformers.ViTConfig(
        **SMALL,
        **LAYERS,
        image_size=8,
        patch_size=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    classes = transformers.ViTForImageClassification, transformers.FlaxViTForImageClassification
    return Model(config, *classes, lambda rng: (rng.standard_normal((4, 3, 8, 8)), rng.integers(0, 3, 4)))


def resnet() -> Model:
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    classes = transformers.ResNetForImageClassification, transformers.FlaxResNetForImageClassification
    return Model(config, *classes, lambda rng: (rng.standard_normal((4, 3, 16, 16)), rng.integers(0, 3, 4)))


MODELS = {"bert": bert, "gpt2": gpt2, "llama": llama, "vit": vit}


def batches(model: Model, steps: int = 4) -> list[Any]:
    rng = np.random.default_rng(0)
    return [model.batch(rng) for _ in range(steps)]


def torch_model(model: Model, **changed: Any) -> torch.nn.Module:
    """With the same first numbers each time."""
    config = copy.deepcopy(model.config)
    for name, value in changed.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model.torch(config).double()


def torch_side(module: torch.nn.Module, optimizer: Any = None, **settings: Any) -> Any:
    """As users write it."""

    def loss(output: Any, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output.logits.flatten(0, -2), y.flatten())

    made = optimizer or (lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.1))
    return lockstep.adopt_torch(module, settings.pop("loss", loss), made, name="port", **settings)


def flax_side(model: Model, transform: Any = None) -> Any:
    """As users write it, with what each module gives for the diagnosis."""
    flax = model.flax(model.config, seed=0, dtype=jnp.float64)
    given = jax.tree.map(lambda one: one.astype(jnp.float64), flax.params)
    transform = transform or optax.adamw(RATE, weight_decay=0.1)

    def loss(output: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()

    if "batch_stats" in given:

        def moving(params: Any, state: Any, x: Any) -> Any:
            output, moved = flax(x, params={"params": params, "batch_stats": state}, train=True)
            return output.logits, moved["batch_stats"]

        return lockstep.adopt_jax(
            moving, loss, transform, given["params"], state=given["batch_stats"], name="flax"
        )

    def apply(params: Any, x: Any) -> Any:
        return flax(x, params=params, train=False).logits

    return lockstep.adopt_jax(apply, loss, transform, given, name="flax", stages=stages_of(apply))


def stages_of(apply: Any) -> Any:
    """What each Linen module gives, by its path."""

    def stages(params: Any, x: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = {}

        def keep(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            first = output[0] if isinstance(output, tuple) else output
            name = "/".join(context.module.path)
            if context.method_name == "__call__" and isinstance(first, jax.Array) and name:
                outputs[name] = first
            return output

        with linen.intercept_methods(keep):
            apply(params, x)
        return outputs

    return stages
