"""Masks in JAX programs: wherever they are drawn they are observed in the order of execution, and replaced, each once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lockstep.backends.adoption import AdoptionError
from lockstep.backends.jax_haiku.adoption import draws

KEY, X = jax.random.PRNGKey(0), np.linspace(-1, 1, 6, dtype=np.float32)
RATE = 0.25
RNG = np.random.default_rng(0)
MASKS = [RNG.random(X.shape) < 0.6 for _ in range(6)]


def drop(key, x, rate=RATE):
    return x * jax.random.bernoulli(key, 1 - rate, x.shape)


def layer(key, x):
    return jnp.sin(2 * drop(key, x))


def expected_layers(*masks):
    """`layer` as often as there are masks."""

    def value(x):
        for mask in masks:
            x = jnp.sin(2 * x * mask)
        return x.sum()

    return value


def plain(key, x):
    return layer(key, x).sum()


def checkpoint(key, x):
    return jax.checkpoint(lambda x: layer(key, x))(x).sum()


def key_made_inside(key, x):
    return jax.checkpoint(lambda x: layer(jax.random.split(key)[1], x))(x).sum()


def checkpoint_in_checkpoint(key, x):
    inner = jax.checkpoint(layer, policy=jax.checkpoint_policies.dots_saveable)
    return jax.checkpoint(lambda x: inner(key, layer(jax.random.fold_in(key, 1), x)))(x).sum()


def scan(key, x):
    return lax.scan(lambda x, key: (layer(key, x), None), x, jax.random.split(key, 3))[0].sum()


def scan_backwards(key, x):
    body = lambda x, key: (layer(key, x), None)  # noqa: E731
    return lax.scan(body, x, jax.random.split(key, 3), reverse=True, unroll=2)[0].sum()


def scan_of_checkpoint(key, x):
    body = jax.checkpoint(lambda x, key: (layer(key, x), None))
    return lax.scan(body, x, jax.random.split(key, 3))[0].sum()


def scan_in_scan(key, x):
    def outer(x, key):
        return lax.scan(lambda x, key: (layer(key, x), None), x, jax.random.split(key))[0], None

    return lax.scan(outer, x, jax.random.split(key, 2))[0].sum()


def fori_loop(key, x):
    return lax.fori_loop(0, 2, lambda at, x: layer(jax.random.fold_in(key, at), x), x).sum()


def branch_taken(key, x):
    return lax.cond(x.sum() < 100, lambda x: layer(key, x), jnp.cos, x).sum()


def branches_of_layers(key, x):
    """Of four layers two draw: the others add nothing."""

    def body(x, at):
        branches = [lambda x: layer(jax.random.fold_in(key, at), x), lambda x: x]
        return lax.switch(at % 2, branches, x), None

    return lax.scan(body, x, jnp.arange(4))[0].sum()


def jitted_in_vmap(key, x):
    drawing = jax.jit(jax.vmap(layer))
    return drawing(jax.random.split(key, 2), x.reshape(2, 3)).sum()


PROGRAMS = {
    plain: 1,
    checkpoint: 1,
    key_made_inside: 1,
    checkpoint_in_checkpoint: 2,
    scan: 3,
    scan_backwards: 3,
    scan_of_checkpoint: 3,
    scan_in_scan: 4,
    fori_loop: 2,
    branch_taken: 1,
    branches_of_layers: 2,
}


def named(masks):
    return {str(at): one for at, one in enumerate(masks)}


def number_of(*programs):
    return pytest.mark.parametrize(
        "program", [pytest.param(one, id=one.__name__) for one in programs or PROGRAMS]
    )


@number_of()
def test_masks_are_observed_once_in_forward_and_derivative(program):
    seen = draws.observed(program, KEY, X)
    assert [one.shape for one in seen] == [X.shape] * PROGRAMS[program]
    np.testing.assert_allclose([one.rate for one in seen], RATE, rtol=1e-6)
    derivative = draws.observed(jax.value_and_grad(program, 1), KEY, X)
    assert derivative == seen


@number_of()
def test_masks_are_replaced_in_order_and_recomputation_gets_the_same(program):
    """The derivative of the replaced program, as training takes it, and the replaced program of a derivative."""
    masks = MASKS[: PROGRAMS[program]]
    value, gradient = jax.value_and_grad(expected_layers(*masks))(X)
    outside = jax.jit(jax.value_and_grad(draws.replaced(program, named(masks)), 1, has_aux=True))
    (one, drawn), its_gradient = outside(KEY, X)
    inside = jax.jit(draws.replaced(jax.value_and_grad(program, 1), named(masks)))
    (other, other_gradient), drawn_inside = inside(KEY, X)
    assert drawn == drawn_inside == len(masks)
    np.testing.assert_allclose([one, other], value, rtol=1e-6)
    for found in (its_gradient, other_gradient):
        np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-6)


def test_a_batched_draw_is_one_mask():
    (seen,) = draws.observed(jitted_in_vmap, KEY, X)
    assert seen.shape == (2, 3)
    mask = MASKS[0].reshape(2, 3)
    value, drawn = draws.replaced(jitted_in_vmap, {"0": mask})(KEY, X)
    np.testing.assert_allclose(value, jnp.sin(2 * X.reshape(2, 3) * mask).sum(), rtol=1e-6)
    assert drawn == 1


def test_each_iteration_of_a_loop_has_its_own_rate():
    def rates(key, x):
        body = lambda x, at: (drop(jax.random.fold_in(key, at), x, 0.125 * at), None)  # noqa: E731
        return lax.scan(body, x, jnp.arange(1, 4))[0].sum()

    seen = draws.observed(rates, KEY, X)
    np.testing.assert_allclose([one.rate for one in seen], [0.125, 0.25, 0.375], rtol=1e-6)


def test_of_branches_the_one_that_is_taken_draws():
    assert draws.observed(branch_taken, KEY, X + 100) == ()
    derivative = jax.value_and_grad(branch_taken, 1)
    assert draws.observed(derivative, KEY, X + 100) == ()


def test_masks_of_other_shapes_keep_their_order():
    def shapes(key, x):
        keys = jax.random.split(key, 3)
        halves = layer(keys[1], layer(keys[0], x).reshape(2, 3))
        return layer(keys[2], halves.reshape(-1)).sum()

    assert [one.shape for one in draws.observed(shapes, KEY, X)] == [(6,), (2, 3), (6,)]
    masks = [MASKS[0], MASKS[1].reshape(2, 3), MASKS[2]]
    value, _ = draws.replaced(shapes, named(masks))(KEY, X)
    np.testing.assert_allclose(value, expected_layers(*MASKS[:3])(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("program", "x", "masks", "match"),
    [
        (scan, X, MASKS[:2], "3, where 2 were"),
        (scan, X, MASKS[:4], "3, where 4 were"),
        (branch_taken, X + 100, MASKS[:1], "0, where 1 were"),
        (scan, X, [MASKS[0], MASKS[1][:3], MASKS[2]], "of another shape"),
        (plain, X, [MASKS[0][:3]], "of another shape"),
    ],
)
def test_other_draws_than_masks_are_refused(program, x, masks, match):
    _, drawn = draws.replaced(program, named(masks))(KEY, x)
    with pytest.raises(AdoptionError, match=f"mine: a step draws other masks(.|\n)*{match}"):
        draws.check("mine", drawn, named(masks))


def test_what_cannot_be_reached_is_not_observed():
    """A while loop's length is known on the way alone, and a derivative of one's own knows nothing of a mask that is given."""

    def while_loop(key, x):
        body = lambda one: (one[0] + 1, layer(jax.random.fold_in(key, one[0]), one[1]))  # noqa: E731
        return lax.while_loop(lambda one: one[0] < 2, body, (0, x))[1].sum()

    @jax.custom_vjp
    def own(key, x):
        return layer(key, x).sum()

    own.defvjp(lambda key, x: (own(key, x), x), lambda x, cotangent: (None, x * cotangent))
    for program in (while_loop, own):
        assert draws.observed(program, KEY, X) == ()
