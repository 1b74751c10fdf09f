"""The certified problems: the data prove themselves, and training reaches the certified coefficients."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.problems import find
from lockstep.harness.problems.families.nist import (
    DATASETS,
    coefficients,
    design,
    digits,
    triangle,
)
from tests.conftest import BACKENDS


def least_squares(rows, response):
    """β of the normal equations, by Gauss and Jordan in exact arithmetic."""
    size = len(rows[0])
    system = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows, response, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        system[i] = [value / system[i][i] for value in system[i]]
        for k in range(size):
            if k != i:
                factor = system[k][i]
                system[k] = [a - factor * b for a, b in zip(system[k], system[i], strict=True)]
    return [row[-1] for row in system]


@pytest.mark.parametrize("name", DATASETS)
def test_data_and_certificates_prove_each_other(name):
    """The exact solution rounds to every certified digit; one wrong digit of the data would not."""
    dataset = DATASETS[name]
    found = least_squares(design(dataset), list(map(Fraction, dataset.response)))
    for value, certified in zip(found, dataset.certified, strict=True):
        digits_printed = len(certified.replace("-", "").replace(".", "").lstrip("0"))
        assert abs(value - Fraction(certified)) <= abs(value) * Fraction(1, 10 ** (digits_printed - 1)) / 2
        assert value == Fraction(certified) or digits_printed >= 14


@pytest.mark.parametrize("name", DATASETS)
def test_the_hash_is_that_of_the_data(name):
    dataset = DATASETS[name]
    assert hashlib.sha256(dataset.text.encode()).hexdigest() == dataset.sha256


@pytest.mark.parametrize("name", DATASETS)
def test_columns_are_nearly_orthonormal(name):
    q = find(f"nist-{name}").x
    np.testing.assert_allclose(q.T @ q, np.eye(q.shape[1]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(triangle(name), np.triu(triangle(name)))


REACHED = {"norris": 12.5, "longley": 12.5, "wampler1": 10.0, "wampler2": 13.0, "noint1": 14.5}
"""Digits of the worst coefficient after training in float64, for every backend; measured (numpy, jax, torch):

norris 12.9, 12.8, 12.8; longley 13.2, 12.8, 13.4; wampler1 10.5, 10.1, 10.2; wampler2 13.2, 13.9, 13.4;
noint1 14.7, 14.7, 14.7.

θ itself is right to a rounding of ‖y‖. A coefficient that is small beside ‖T_j‖ ‖y‖ loses what cancels in T θ:
Wampler1's intercept is 1 where y reaches 3.4e6, Norris' -0.26 where y reaches 999.
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", DATASETS)
def test_training_reaches_the_certified_coefficients(name, backend):
    problem = find(f"nist-{name}")
    trainer = backends.load(backend).trainer(problem)
    found = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).final.parameters
    assert digits(name, found) >= REACHED[name]
    assert digits(name, {"0.dot/w": found["0.dot/w"] * (1 + 1e-6)}) < 7
    assert len(coefficients(name, found)) == len(DATASETS[name].certified)
