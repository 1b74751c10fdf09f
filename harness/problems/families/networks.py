"""Networks of more than vectors: residual, convolutional and attending ones, normalised and dropped out."""

from __future__ import annotations

from typing import Any

import numpy as np

from lockstep.backends.problem import Array, Batching, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw

MOMENTUM = Optimizer("sgd", learning_rate=0.02, momentum=0.9)


def _problem(name: str, x: Array, y: Array, model: tuple[Layer, ...], batch: int | None = None) -> Problem:
    """100 steps with momentum on the mean squared error."""
    batching = Batching() if batch is None else Batching(size=batch, shuffle=0)
    epochs = 100 // batching.steps(len(x))
    initial = draw(model, x.shape[1:], seed=6)
    return Problem(name, x, y, model, Loss("squared_error"), MOMENTUM, epochs, initial, batching=batching)


def _series(length: int) -> tuple[Array, Array]:
    """Sines of random frequency and phase, (24, length, 1), and their frequencies (24, 1)."""
    rng = np.random.RandomState(7)
    frequency, phase = rng.uniform(0.5, 2, (24, 1)), rng.uniform(0, 2 * np.pi, (24, 1))
    x = np.sin(frequency * np.linspace(0, 2 * np.pi, length) + phase)
    return x[:, :, None], frequency


def residual_mlp() -> Problem:
    """Three residual blocks, each normalised first and dropped out last, on two variables."""
    rng = np.random.RandomState(8)
    x = rng.uniform(-1, 1, (24, 2))
    block = Layer(
        "residual",
        branches=[
            [
                Layer("layer_norm"),
                Layer("linear", size=12),
                Layer("gelu"),
                Layer("linear", size=6),
                Layer("dropout", rate=0.1),
            ]
        ],
    )
    model = (Layer("linear", size=6), block, block, block, Layer("linear", size=1))
    return _problem("residual-mlp", x, 1 + np.sin(2 * x[:, :1]) * x[:, 1:], model, batch=12)


def batch_norm(name: str, convention: dict[str, Any]) -> Problem:
    """A network normalised over its batches; no bias before the norm, where its gradient would be rounding."""
    rng = np.random.RandomState(9)
    x = rng.uniform(-1, 1, (24, 3))
    model = (Layer("dot", size=6), Layer("batch_norm", **convention), Layer("tanh"), Layer("linear", size=1))
    return _problem(name, x, np.sin(x @ np.array([[1.0], [-2.0], [0.5]])), model, batch=8)


def convolution() -> Problem:
    """The frequency of a series by two convolutions, one with a stride."""
    model = (
        Layer("conv1d", size=4, window=5, padding=2),
        Layer("relu"),
        Layer("max_pool", window=2, stride=2),
        Layer("conv1d", size=4, window=3, stride=2, padding=1),
        Layer("rms_norm"),
        Layer("flatten"),
        Layer("linear", size=1),
    )
    return _problem("convolution", *_series(24), model)


def convolution_2d() -> Problem:
    """The slope of a tilted plane with ripples from a picture of 9 times 9."""
    rng = np.random.RandomState(10)
    slope = rng.uniform(-1, 1, (24, 2))
    grid = np.linspace(-1, 1, 9)
    plane = slope[:, :1, None] * grid[:, None] + slope[:, 1:, None] * grid
    model = (
        Layer("conv2d", size=3, window=3, stride=2),
        Layer("silu"),
        Layer("average_pool", window=2, padding=1, count_padding=False),
        Layer("flatten"),
        Layer("linear", size=2),
    )
    return _problem("convolution-2d", (plane + 0.1 * np.sin(9 * plane))[..., None], slope, model)


def attention() -> Problem:
    """The frequency of a series by causal attention over its embedded values.

    A key's bias shifts all logits of a row alike, which softmax ignores: its gradient is rounding, so it
    starts at 0.1, compared with which rounding is small.
    """
    x, y = _series(12)
    model = (
        Layer("linear", size=6),
        Layer("residual", branches=[[Layer("layer_norm"), Layer("attention", heads=2, causal=True)]]),
        Layer("tanh"),
        Layer("flatten"),
        Layer("linear", size=1),
    )
    problem = _problem("attention", x, y, model)
    key = "1.residual/0/1.attention/b_key"
    return problem.replace(initial={**problem.initial, key: np.full(6, 0.1)})


def embedding() -> Problem:
    """A sum over learned values of tokens; some tokens come twice in a row, some never."""
    rng = np.random.RandomState(11)
    ids, value = rng.randint(0, 9, (24, 5)), rng.uniform(-1, 1, 12)
    model = (
        Layer("embedding", ids=12, size=3),
        Layer("parallel", branches=[[Layer("tanh")], [Layer("square"), Layer("linear", size=2)]]),
        Layer("flatten"),
        Layer("linear", size=1),
    )
    return _problem("embedding", ids, value[ids].sum(1, keepdims=True), model)


PROBLEMS = {
    "residual-mlp": Entry(residual_mlp, "deep, with layer norm and dropout: every backend drops the same"),
    "batch-norm": Entry(
        lambda: batch_norm("batch-norm", {}), "running averages as torch keeps them, used in evaluation"
    ),
    "batch-norm-debiased": Entry(
        lambda: batch_norm("batch-norm-debiased", {"unbiased": False, "debias": True}),
        "running averages as Haiku keeps them",
    ),
    "convolution": Entry(convolution, "convolution and maximum over a series; ties after the relu"),
    "convolution-2d": Entry(convolution_2d, "two axes, a stride, an average that does not count its padding"),
    "attention": Entry(attention, "softmax over places, a mask, four projections"),
    "embedding": Entry(embedding, "rows that repeat within a batch, and rows that never get a gradient"),
}
