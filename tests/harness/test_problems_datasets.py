"""Problems whose data come with scikit-learn."""

import sys

import numpy as np
import pytest

from lockstep.backends.errors import DatasetUnavailableError
from lockstep.harness.environment.listing import (
    listing,
)
from lockstep.harness.problems import find
from lockstep.harness.problems.families.datasets import REASONS


@pytest.mark.parametrize(("name", "shape", "outputs"), [("diabetes", (442, 10), 1), ("linnerud", (20, 3), 3)])
def test_data_are_standardised(name, shape, outputs):
    problem = find(name)
    assert problem.x.shape == shape
    assert problem.y.shape == (shape[0], outputs)
    for columns, mean in ((problem.x, 0), (problem.y, 1)):
        np.testing.assert_allclose(columns.mean(0), mean, atol=1e-12)
        np.testing.assert_allclose(columns.std(0), 1, rtol=1e-12)


@pytest.mark.parametrize("name", REASONS)
def test_without_scikit_learn_the_error_says_how_to_install_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DatasetUnavailableError, match=r"pip install 'lockstep-parity\[datasets\]'"):
        find(name)
    assert name in {one["name"] for one in listing()["problems"]}  # listing needs no data
    assert find("seed").name == "seed"
