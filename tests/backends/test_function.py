"""unbroadcast is the adjoint of broadcasting."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from lockstep.backends.numpy_vjp import Function, unbroadcast
from lockstep.backends.numpy_vjp.function import VjpError


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_unbroadcast_is_the_adjoint_of_broadcasting(shapes):
    """⟨u, broadcast(b)⟩ = ⟨unbroadcast(u), b⟩, exactly, on small integers."""
    shape = shapes.input_shapes[0]
    rng = np.random.default_rng(0)
    b = rng.integers(-9, 9, shape).astype(float)
    u = rng.integers(-9, 9, shapes.result_shape).astype(float)
    summed = unbroadcast(u, shape)
    assert summed.shape == shape
    assert np.sum(u * np.broadcast_to(b, shapes.result_shape)) == np.sum(summed * b)


def test_a_function_shows_its_name_and_keeps_its_docstring():
    @Function
    def shifted(x, w):
        """x + 1."""
        return x + 1

    assert repr(shifted) == "<Function shifted>"
    assert shifted.__doc__ == "x + 1."
    assert shifted(np.float64(1)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("gradient", "got"),
    [
        (lambda u: u, r"float64 \(5, 2\) for float64 \(2,\)"),  # the sum over the batch forgotten
        (lambda u: u.sum(0).astype(np.float32), r"float32 \(2,\) for float64 \(2,\)"),
    ],
)
def test_a_vjp_whose_cotangent_has_another_form_is_refused(gradient, got):
    """torch would reduce it, and its gradcheck would pass."""

    @Function
    def shifted(x, b):
        return x + b

    @shifted.define_vjp
    def make_vjp(x, b):
        return lambda u: (u, gradient(u))

    x, b = np.ones((5, 2)), np.zeros(2)
    with pytest.raises(
        VjpError, match="the VJP of shifted gives a cotangent of another form than its w"
    ) as error:
        shifted.make_vjp(x, b)(np.ones((5, 2)))
    assert re.search(got, error.value.got)
