"""Measured data that come with scikit-learn's own package; nothing is downloaded."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lockstep.backends.errors import DatasetUnavailableError
from lockstep.backends.problem import Array, Layer, Loss, Optimizer, Problem
from lockstep.harness.problems import Entry
from lockstep.harness.problems.initial import draw


def _load(name: str) -> tuple[Array, Array]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DatasetUnavailableError(
            f"the data of {name!r} come with scikit-learn, which cannot be imported",
            str(error),
            "pip install 'lockstep-parity[datasets]'",
        ) from error
    loaded: Any = getattr(datasets, f"load_{name}")()
    return np.asarray(loaded.data), np.asarray(loaded.target).reshape(len(loaded.data), -1)


def _standardised(columns: Array) -> Array:
    """Each column with mean 0 and variance 1."""
    scaled: Array = (columns - columns.mean(0)) / columns.std(0)
    return scaled


def _make(name: str) -> Problem:
    """A linear model of all targets at once, 100 steps with momentum on the mean squared error.

    The targets keep a mean of 1: a bias that should become 0 would be nothing but rounding.
    """
    x, y = _load(name)
    model = (Layer("linear", size=y.shape[1]),)
    optimizer = Optimizer("sgd", learning_rate=0.05, momentum=0.9)
    initial = draw(model, x.shape[1:], seed=12)
    return Problem(
        name, _standardised(x), 1 + _standardised(y), model, Loss("squared_error"), optimizer, 100, initial
    )


REASONS = {
    "diabetes": "442 patients, ten correlated variables (Efron et al., 2004)",
    "linnerud": "20 athletes, three exercises to three targets: fewer rows than most, several outputs",
}

PROBLEMS = {name: Entry(functools.partial(_make, name), reason) for name, reason in REASONS.items()}
