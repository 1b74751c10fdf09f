"""Problems of unusual shape are what they say."""

import numpy as np
import pytest

from lockstep.harness.problems import find


@pytest.mark.parametrize(("name", "shape"), [("tall", (1_000_000, 2)), ("wide", (20, 2_000))])
def test_shapes(name, shape):
    assert find(name).x.shape == shape


def test_the_ill_conditioned_design_is():
    assert np.linalg.cond(find("ill-conditioned").x) > 1e5
