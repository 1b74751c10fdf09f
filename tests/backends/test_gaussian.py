"""The Gaussian likelihood: against torch's own loss called directly, below and beyond where that one works."""

import math

import numpy as np
import pytest
import torch

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Loss
from tests.backends.test_ops import problem, stages
from tests.conftest import BACKENDS, square_problem

FLOOR = math.log(1e-6)
S = np.array([[-30.0, FLOOR - 1e-3, FLOOR], [FLOOR + 1e-3, -3.0, 0.0], [2.0, 10.0, 30.0]])
M = np.array([[0.0, 1.0, -2.0], [0.5, -0.5, 3.0], [1.0, 2.0, 3.0]])
Y = np.array([[0.0, 1.002, -2.0], [0.5002, 0.5, 1.0], [1.5, 20.0, 3.0]])


def of(backend, m, s, y, **args):
    """Loss and its derivatives in m and s."""
    x = np.concatenate([m, s], axis=-1)
    found = stages(backend, problem("add", {}, x, Loss("gaussian", **args), y, parameters=np.zeros))
    return found["loss"], *np.split(found["cotangent/0.add"], 2, axis=-1)


def torchs(m, s, y, epsilon, reduction):
    m, s = torch.tensor(m, requires_grad=True), torch.tensor(s, requires_grad=True)
    loss = torch.nn.GaussianNLLLoss(eps=epsilon, reduction=reduction)(m, torch.tensor(y), torch.exp(s))
    return loss.detach().numpy(), *(grad.numpy() for grad in torch.autograd.grad(loss, (m, s)))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("epsilon", [1e-6, 0.3])
def test_plain_torch_has_this_loss_and_these_derivatives(name, reduction, epsilon):
    ours = of(name, M, S, Y, epsilon=epsilon, reduction=reduction)
    for mine, theirs in zip(ours, torchs(M, S, Y, epsilon, reduction), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-14, atol=1e-300)  # exp(s) carries |s| ≤ 30 roundings


def test_the_derivative_passes_the_clamp():
    """Below the smallest variance a derivative of the clamped formula would be zero."""
    _, _, in_s = of("numpy", M, S, Y)
    assert S[0, 1] < FLOOR
    assert in_s[0, 1] < -0.1


@pytest.mark.parametrize("name", BACKENDS)
def test_no_log_variance_overflows(name):
    """Where eˢ would be infinite torch's own loss is lost; here the limits stand."""
    m, s, y = np.zeros((1, 2)), np.array([[1e4, -1e4]]), np.array([[3.0, 1e-3]])
    loss, in_m, in_s = of(name, m, s, y, reduction="sum")
    np.testing.assert_allclose(loss, 0.5 * 1e4 + 0.5 * (FLOOR + 1.0), rtol=1e-15)
    np.testing.assert_allclose(in_m, [[0.0, -1e3]], rtol=1e-14)
    np.testing.assert_array_equal(in_s, [[0.5, 0.0]])
    assert not np.isfinite(torchs(m, s, y, 1e-6, "sum")[0])


def test_the_prediction_is_twice_as_wide_as_y():
    with pytest.raises(ProblemError, match=r"do not fit loss 'gaussian'\n.*\(2,\) and \(2,\).*\n.*\(4,\)"):
        square_problem(loss=Loss("gaussian"))
    with pytest.raises(ProblemError, match="epsilon is out of range"):
        Loss("gaussian", epsilon=0.0)
