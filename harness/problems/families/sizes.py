"""Data of unusual shape: very many rows, more columns than rows, columns that are nearly dependent."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw


def _problem(name: str, x: Array, y: Array, epochs: int, optimizer: Optimizer) -> Problem:
    model = (Layer("linear", size=1),)
    initial = draw(model, x.shape[1:], seed=13)
    return Problem(name, x, y, model, Loss("squared_error"), optimizer, epochs, initial)


def tall() -> Problem:
    """The seed's plane from a million rows: each loss is a sum of a million terms."""
    x = np.random.default_rng(14).random((1_000_000, 2))
    y = x @ np.array([[2.0], [-3.0]]) + 1
    return _problem("tall", x, y, 10, Optimizer("sgd", learning_rate=0.5))


def wide() -> Problem:
    """Twenty rows of 2,000 columns: the fit is exact and far from unique."""
    rng = np.random.default_rng(15)
    x = rng.standard_normal((20, 2_000))
    y = 1 + x[:, :3].sum(1, keepdims=True)
    return _problem("wide", x, y, 100, Optimizer("sgd", learning_rate=1e-3, momentum=0.5))


def ill_conditioned() -> Problem:
    """The first eight powers of 21 places between 0 and 1, a design of condition 5e5."""
    t = np.linspace(0, 1, 21)[:, None]
    optimizer = Optimizer("sgd", learning_rate=0.1, momentum=0.9, nesterov=True)
    return _problem("ill-conditioned", t ** np.arange(1, 9), np.sin(3 * t), 500, optimizer)


PROBLEMS = {
    "tall": Entry(tall, "a million rows: what summation costs in float32"),
    "wide": Entry(wide, "a hundred times more columns than rows"),
    "ill-conditioned": Entry(ill_conditioned, "directions in which the loss hardly changes"),
}
