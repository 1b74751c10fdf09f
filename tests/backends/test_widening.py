"""Programs of JAX in float64 throughout, against the same formulas written in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from lockstep.backends.jax_haiku.adoption import widening
from lockstep.backends.pytorch.adoption import widening as torch_widening

X = np.random.default_rng(0).standard_normal((4, 3))


def low(x):
    return x.astype(jnp.float32)


def scanned(x, cast=low):
    """A carry, and what is collected, of the narrower float."""
    carry, each = jax.lax.scan(lambda c, row: (c * 0.5 + jnp.tanh(row), c), cast(x[0]) * 0.1, cast(x))
    return carry.sum() + (each**2).sum()


PROGRAMS = {
    "norm": lambda x, cast=low: (x / jnp.sqrt((cast(x) ** 2).mean(-1, keepdims=True) + 1e-6)).sum(),
    "softmax": lambda x, cast=low: (jax.nn.softmax(cast(x)) * x).sum(),
    "silu": lambda x, cast=low: jax.nn.silu(cast(x)).sum(),
    "gelu": lambda x, cast=low: jax.nn.gelu(cast(x), approximate=False).sum(),
    "product": lambda x, cast=low: (cast(x) @ cast(x).T).sum() * 0.1,
    "jit": lambda x, cast=low: jax.jit(lambda one: jnp.exp(one) * 0.3)(cast(x)).sum(),
    "checkpoint": lambda x, cast=low: jax.checkpoint(lambda one: jnp.sin(one) * 0.3)(cast(x)).sum(),
    "branch": lambda x, cast=low: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, cast(x)).sum(),
    "scan": scanned,
    "mapped": lambda x, cast=low: jax.vmap(lambda row: jnp.sort(cast(row)) @ cast(row))(x).sum(),
    "made": lambda x, cast=low: (x * cast(jnp.arange(3)) * cast(jnp.linspace(0.1, 1, 3))).sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_widened_program_is_the_one_that_was_written_in_float64(name):
    function = PROGRAMS[name]
    with jax.enable_x64(True):
        expected = jax.jit(jax.value_and_grad(lambda x: function(x, lambda one: one.astype(jnp.float64))))(X)
        widened = jax.jit(jax.value_and_grad(widening.widened(function)))(X)
        as_it_is = jax.jit(jax.value_and_grad(function))(X)
    for one, wide in zip(expected, widened, strict=True):
        assert wide.dtype == np.float64
        np.testing.assert_allclose(wide, one, rtol=1e-13, atol=1e-13)
    assert not np.allclose(as_it_is[1], expected[1], rtol=1e-10, atol=0)


def test_a_function_with_a_backward_pass_of_its_own_keeps_it():
    """Its derivative is what its author says, ten times the true one."""

    @jax.custom_vjp
    def tenfold(x):
        return x * 2

    tenfold.defvjp(lambda x: (x * 2, None), lambda saved, grad: (20 * grad,))
    with jax.enable_x64(True):
        grad = jax.grad(widening.widened(lambda x: tenfold(low(x)).sum()))(X)
    np.testing.assert_array_equal(grad, np.full_like(X, 20))


def test_integers_booleans_and_keys_stay_what_they_are():
    def function(x, key, count):
        drawn = jax.random.bernoulli(key, 0.5, x.shape)
        return {"mask": drawn, "count": count + 1, "x": jnp.where(drawn, low(x), 0), "key": key}

    with jax.enable_x64(True):
        arguments = X, jax.random.key(1), jnp.int32(2)
        plain, wide = function(*arguments), widening.widened(function)(*arguments)
    assert wide["count"].dtype == np.int32
    assert wide["x"].dtype == np.float64
    np.testing.assert_array_equal(wide["mask"], plain["mask"])
    assert wide["key"] == plain["key"]


def test_each_line_that_narrows_is_named_once():
    def function(x):
        first = low(x)
        return jnp.sum(first * 2) + jnp.exp(x.astype(jnp.bfloat16)).sum()

    with jax.enable_x64(True):
        found = widening.narrowed(function, X)
        assert not widening.narrowed(lambda x: jnp.tanh(x) * 0.1, X)
    line = function.__code__.co_firstlineno
    # `low` is a line of this file as well.
    assert [(one.place, one.dtype) for one in found] == [
        (f"test_widening.py:{low.__code__.co_firstlineno + 1}", "float32"),
        (f"test_widening.py:{line + 2}", "bfloat16"),
    ]


TORCH = {
    "to": lambda x: torch.tanh(x.to(torch.float32) * 0.1),
    "float": lambda x: torch.exp(x.float()),
    "softmax": lambda x: torch.softmax(x, -1, dtype=torch.float32) * x,
    "sum": lambda x: torch.sum(x, -1, dtype=torch.float32),
    "made": lambda x: x * torch.linspace(0.1, 1, 3, dtype=torch.float32),
    "default": lambda x: x * torch.tensor(0.1) * torch.full((3,), 0.7),
    "integers": lambda x: x * torch.sin(torch.arange(3).float()),
    "half": lambda x: x.half() * 0.1 + x.bfloat16(),
}


@pytest.mark.parametrize("name", TORCH)
def test_widened_torch_code_makes_no_narrower_float(name):
    x = torch.tensor(X, requires_grad=True)
    recorder = torch_widening.Narrowed()
    with recorder:
        narrow = TORCH[name](x)
    assert [one.place for one in recorder.places] == [
        f"test_widening.py:{TORCH[name].__code__.co_firstlineno}"
    ] * len(recorder.places)
    assert recorder.places
    with torch_widening.widened(), (again := torch_widening.Narrowed()):
        wide = TORCH[name](x)
        wide.sum().backward()
    assert not again.places
    assert wide.dtype == x.grad.dtype == torch.float64
    assert 1e-12 < float((wide - narrow).detach().abs().max() / wide.detach().abs().max()) < 1e-2
    assert torch.get_default_dtype() == torch.float32


def test_code_of_float64_alone_is_left_as_it_is():
    x = torch.tensor(X, requires_grad=True)
    plain = torch.nn.functional.layer_norm(x, (3,)).softmax(-1)
    with torch_widening.Narrowed() as recorder, torch_widening.widened():
        again = torch.nn.functional.layer_norm(x, (3,)).softmax(-1)
    assert torch.equal(plain, again)
    assert not recorder.places
