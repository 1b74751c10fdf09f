"""Regressions of the generalised linear kind, each with its own loss, on data made here."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Array, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw


def _problem(name: str, x: Array, y: Array, loss: Loss, rate: float) -> Problem:
    """A linear model of y, 100 steps of gradient descent over the whole batch."""
    model = (Layer("linear", size=y.shape[1]),)
    optimizer = Optimizer("sgd", learning_rate=rate)
    return Problem(name, x, y, model, loss, optimizer, 100, draw(model, x.shape[1:], seed=3))


def _data() -> tuple[Array, Array]:
    """X (40, 3) uniform in [−1, 1], and a linear signal (40, 1) with a few gross outliers."""
    rng = np.random.RandomState(4)
    x = rng.uniform(-1, 1, (40, 3))
    signal = x @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 + 0.1 * rng.randn(40, 1)
    signal[::9] += 5
    return x, signal


def ridge() -> Problem:
    """Least squares with an L2 penalty, as coupled weight decay on weights and bias alike."""
    x, y = _data()
    optimizer = Optimizer("sgd", learning_rate=0.1, weight_decay=0.1)
    return _problem("ridge", x, y, Loss("squared_error"), 0.1).replace(optimizer=optimizer)


def polynomial() -> Problem:
    """A quartic in one variable from its powers."""
    t = np.linspace(-1, 1, 25)[:, None]
    return _problem("polynomial", t ** np.arange(1, 5), t**4 - t**2 + 0.5 * t, Loss("squared_error"), 0.1)


def huber() -> Problem:
    """Robust to the outliers."""
    return _problem("huber", *_data(), Loss("huber", delta=0.5), 0.1)


def quantile() -> Problem:
    """The upper decile; subgradients at exact fits."""
    return _problem("quantile", *_data(), Loss("quantile", q=0.9), 0.1)


def poisson() -> Problem:
    """Counts with a log-linear rate."""
    x, _signal = _data()
    rate = np.exp(0.5 * x @ np.array([[1.0], [-2.0], [0.5]]))
    counts = np.random.RandomState(5).poisson(rate).astype(float)
    return _problem("poisson", x, counts, Loss("poisson"), 0.1)


def logistic() -> Problem:
    """Two classes from one logit."""
    x, signal = _data()
    return _problem("logistic", x, (signal > 0.3).astype(float), Loss("logistic"), 0.5)


def softmax() -> Problem:
    """Three classes, one-hot."""
    x, signal = _data()
    classes = np.digitize(signal[:, 0], [-0.5, 1.0])
    return _problem("softmax", x, np.eye(3)[classes], Loss("softmax_cross_entropy"), 0.5)


def gaussian() -> Problem:
    """Means and log variances, both linear in x, by a noise that grows with one input."""
    x, signal = _data()
    y = signal + np.exp(x[:, :1]) * np.random.RandomState(6).randn(40, 1)
    model = (Layer("linear", size=2),)
    optimizer = Optimizer("sgd", learning_rate=0.1)
    return Problem("gaussian", x, y, model, Loss("gaussian"), optimizer, 100, draw(model, (3,), seed=3))


PROBLEMS = {
    "ridge": Entry(ridge, "an L2 penalty through the optimizer's coupled decay"),
    "polynomial": Entry(polynomial, "powers of one variable: correlated, badly scaled columns"),
    "huber": Entry(huber, "a loss with a linear and a quadratic branch, crossed in training"),
    "quantile": Entry(quantile, "a loss whose derivative jumps"),
    "poisson": Entry(poisson, "an exponential in the loss"),
    "logistic": Entry(logistic, "the loss that overflows when written naively"),
    "softmax": Entry(softmax, "several outputs, normalised together"),
    "gaussian": Entry(gaussian, "a prediction wider than y: means and log variances"),
}
