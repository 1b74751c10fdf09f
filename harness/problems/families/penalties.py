"""Penalised least squares: a sparse truth found by L1, and L2 as part of the loss."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Layer, Loss, Optimizer, Penalty, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw


def _problem(name: str, penalty: Penalty) -> Problem:
    """40 examples of ten inputs, of which the first two matter."""
    rng = np.random.RandomState(7)
    x = rng.uniform(-1, 1, (40, 10))
    y = 2 * x[:, :1] - 3 * x[:, 1:2] + 1 + 0.1 * rng.randn(40, 1)
    model = (Layer("linear", size=1),)
    optimizer = Optimizer("sgd", learning_rate=0.1)
    initial = draw(model, (10,), seed=3)
    loss = Loss("squared_error")
    return Problem(name, x, y, model, loss, optimizer, 100, initial, penalties=(penalty,))


def lasso() -> Problem:
    """Eight weights go to zero and then step across it, each time with the other sign's derivative."""
    return _problem("lasso", Penalty("l1", weight=0.2))


def ridge_penalty() -> Problem:
    """The bias is not penalised, as it is by the optimizer's decay."""
    return _problem("ridge-penalty", Penalty("l2", weight=0.2))


PROBLEMS = {
    "lasso": Entry(lasso, "an L1 penalty: weights cross zero, where its derivative jumps"),
    "ridge-penalty": Entry(ridge_penalty, "an L2 penalty that is part of the loss, on weights alone"),
}
