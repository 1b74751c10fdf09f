"""jvp, vjp and the Jacobian: Taylor remainders, adjoints, and products of Jacobians from either end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.backends.numpy_vjp import (
    Function,
    add,
    compose,
    dot,
    jacobian,
    jvp,
    squared_loss,
    vjp,
)


def directions(rng, value):
    """A random direction of the structure of `value`."""
    if isinstance(value, tuple):
        return tuple(directions(rng, part) for part in value)
    return rng.standard_normal(np.shape(value))


def cases():
    rng = np.random.default_rng(3)
    x, w, b, y = (rng.standard_normal(shape) for shape in ((5, 3), (3, 2), (2,), (5, 2)))
    return {
        "dot": (dot, x, w),
        "add": (add, x[:, :2], b),
        "squared_loss": (squared_loss, x[:, :2], y),
        "chain": (compose(dot, add, squared_loss), x, (w, b, y)),
    }


CASES = cases()


def moved(w, v, h):
    if isinstance(w, tuple):
        return tuple(moved(part, direction, h) for part, direction in zip(w, v, strict=True))
    return w + h * v


@pytest.mark.parametrize("name", CASES)
def test_the_taylor_remainder_shrinks_with_slope_two(name):
    """f(x + hv) − f(x) − hJv = O(h²), in x and w together."""
    f, x, w = CASES[name]
    rng = np.random.default_rng(0)
    v_x, v_w = directions(rng, x), directions(rng, w)
    steps = np.logspace(-1, -4, 7)
    linear = jvp(f, x, w, v_x, v_w)
    remainders = [np.linalg.norm(f(x + h * v_x, moved(w, v_w, h)) - f(x, w) - h * linear) for h in steps]
    if max(remainders) < 1e-12:  # f is linear: nothing remains, whatever the step
        assert name == "add"
        return
    slope = np.polyfit(np.log(steps), np.log(remainders), 1)[0]
    assert slope == pytest.approx(2, abs=0.05)


def test_the_slope_test_sees_a_wrong_jvp():
    """With a derivative that is off by 1 %, the remainder shrinks with slope one."""
    f, x, w = CASES["chain"]
    rng = np.random.default_rng(0)
    v = directions(rng, x)
    steps = np.logspace(-1, -4, 7)
    linear = 1.01 * jvp(f, x, w, v)
    remainders = [abs(f(x + h * v, w) - f(x, w) - h * linear) for h in steps]
    assert np.polyfit(np.log(steps[3:]), np.log(remainders[3:]), 1)[0] < 1.5


@pytest.mark.parametrize("name", CASES)
def test_forward_and_reverse_mode_are_adjoint(name):
    """uᵀ(Jv) = (Jᵀu)ᵀv, where Jv comes from dual numbers and Jᵀu from the hand-written VJP."""
    f, x, w = CASES[name]
    rng = np.random.default_rng(1)
    value, pull = vjp(f, x, w)
    u, v_x = rng.standard_normal(np.shape(value)), directions(rng, x)
    grad_x, grad_w = pull(u)
    constant = name in ("squared_loss", "chain")  # their target has no derivative
    v_w = None if name == "squared_loss" else directions(rng, w)
    if name == "chain":
        v_w = (*v_w[:2], None)
    left = np.sum(u * jvp(f, x, w, v_x, v_w))
    pairs = zip(grad_w, v_w, strict=True) if name == "chain" else [(grad_w, v_w)]
    right = np.sum(grad_x * v_x) + sum(np.sum(g * v) for g, v in pairs if g is not None)
    assert left == pytest.approx(right, rel=1e-12)
    assert constant == (name in ("squared_loss", "chain"))


def test_the_adjoint_test_sees_a_wrong_vjp():
    @Function
    def doubled(x, w):
        return x + x

    @doubled.define_vjp
    def wrong(x, w):
        return lambda u: (u, None)

    x = np.arange(3.0)
    assert np.sum(jvp(doubled, x, None, np.ones(3))) != np.sum(doubled.make_vjp(x)(np.ones(3))[0])


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 4), a=st.integers(1, 4), m=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_the_jacobian_of_a_chain_is_the_product_from_either_end(n, a, m, seed):
    rng = np.random.default_rng(seed)
    x, w1, b, w2 = (rng.standard_normal(shape) for shape in ((n, a), (a, m), (m,), (m, 2)))
    funcs, params = (dot, add, dot), (w1, b, w2)
    factors, value = [], x
    for f, w in zip(funcs, params, strict=True):
        out = f(value, w)
        factors.append(jacobian(f, value, w).reshape(out.size, value.size))
        value = out
    left_to_right = factors[2] @ factors[1] @ factors[0]
    right_to_left = (factors[0].T @ (factors[1].T @ factors[2].T)).T
    whole = compose(*funcs)
    for mode in ("reverse", "forward"):
        found = jacobian(whole, x, params, mode=mode)
        assert found.shape == value.shape + x.shape
        for product in (left_to_right, right_to_left):
            np.testing.assert_allclose(found.reshape(product.shape), product, rtol=1e-10, atol=1e-12)


def test_the_jacobian_of_the_seeds_example_is_w_transposed():
    """f(x, W) = xW for one vector x has the Jacobian Wᵀ."""
    x, w = np.arange(3.0), np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(jacobian(dot, x, w), w.T)


def test_the_jacobian_equals_jaxs():
    import jax
    import jax.numpy as jnp

    f, x, w = CASES["chain"]
    with jax.enable_x64(True):
        expected = jax.jacobian(lambda x: jnp.sum((x @ w[0] + w[1] - w[2]) ** 2))(jnp.asarray(x))
    np.testing.assert_allclose(jacobian(f, x, w), expected, rtol=1e-12)
