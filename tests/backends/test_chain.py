"""The seed's chain: against the notebook's printed numbers, finite differences and torch's autograd."""

from fractions import Fraction

import numpy as np
import pytest

from lockstep.backends.numpy_vjp import (
    add,
    backward_diff_chain,
    compose,
    dot,
    evaluate_chain,
    mean_squared_loss,
    sgd,
    squared_loss,
    update_params,
)

PRINTED = [
    "110.2900527", "17.17577308", "15.48445439", "14.27434616", "13.16495088",
    "12.14630386", "11.21068817", "10.35106573", "9.56101153", "8.83465916",
]  # fmt: skip
"""The losses that the seed's NumPy notebook prints."""


@pytest.fixture
def notebook(seed):
    """funcs, params and x as the notebook has them: the target is the loss' parameter."""
    initial = seed.initial_parameters()
    funcs = [dot, add, squared_loss]
    return funcs, [initial["0.linear/w"], initial["0.linear/b"], seed.y], seed.x


def test_the_notebook_training_loop_prints_the_notebook_losses(notebook):
    funcs, params, x = notebook
    optimizer = sgd(learning_rate=1e-2)
    losses = []
    for _ in range(10):
        loss, _, grads = backward_diff_chain(x, funcs, params)
        losses.append(loss)
        named = dict(enumerate(params[:-1]))
        updates, _ = optimizer.update(dict(enumerate(grads[:-1])), {}, named, 1)
        params = [*update_params(updates, named).values(), params[-1]]
    assert [
        f"{loss:.{len(text.partition('.')[2])}f}" for loss, text in zip(losses, PRINTED, strict=True)
    ] == PRINTED
    # numpy prints eight decimals of each: [[1.6269806], [-1.09195793]] and [0.121909].
    assert np.array2string(params[0].ravel(), precision=8) == "[ 1.6269806  -1.09195793]"
    assert np.array2string(params[1], precision=8) == "[0.121909]"


def test_return_all_gives_every_value_on_the_way(notebook):
    funcs, params, x = notebook
    values = evaluate_chain(x, funcs, params, return_all=True)
    assert [np.shape(value) for value in values] == [(30, 2), (30, 1), (30, 1), ()]
    assert values[-1] == evaluate_chain(x, funcs, params)


def test_as_many_parameters_as_functions(notebook):
    funcs, params, x = notebook
    with pytest.raises(ValueError, match="zip"):
        evaluate_chain(x, funcs, params[:-1])


def test_the_target_gets_no_gradient(notebook):
    funcs, params, x = notebook
    assert backward_diff_chain(x, funcs, params)[2][-1] is None


def test_the_contraction_is_the_sum_of_the_notebooks_per_example_gradients(notebook):
    _, params, x = notebook
    u = np.random.default_rng(0).standard_normal((30, 1))
    per_example = np.einsum("na,nb->nab", x, u)
    np.testing.assert_allclose(dot.make_vjp(x, params[0])(u)[1], per_example.sum(0), rtol=1e-14)


def test_gradients_equal_torchs(notebook):
    import torch

    funcs, params, x = notebook
    loss, grad_x, grads = backward_diff_chain(x, funcs, params)
    tensors = [torch.tensor(value, requires_grad=True) for value in (x, *params[:-1])]
    expected = ((tensors[0] @ tensors[1] + tensors[2] - torch.tensor(params[-1])) ** 2).sum()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-15)
    for ours, theirs in zip((grad_x, *grads[:-1]), tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype, notebook):
    funcs, params, x = notebook
    loss, grad_x, grads = backward_diff_chain(
        x.astype(dtype), funcs, [value.astype(dtype) for value in params]
    )
    assert {loss.dtype, grad_x.dtype, grads[0].dtype, grads[1].dtype} == {np.dtype(dtype)}


def test_object_arrays_of_any_number_type_give_exact_gradients(notebook):
    """With rationals there is no rounding: the float result must be theirs, rounded."""
    funcs, params, x = notebook
    exact = np.vectorize(Fraction, otypes=[object])
    loss, grad_x, grads = backward_diff_chain(exact(x), funcs, [exact(value) for value in params])
    assert isinstance(loss, Fraction)
    rounded = backward_diff_chain(x, funcs, params)
    assert float(loss) == pytest.approx(rounded[0], rel=1e-15)
    np.testing.assert_allclose(grad_x.astype(float), rounded[1], rtol=1e-14)
    for ours, theirs in zip(grads[:-1], rounded[2][:-1], strict=True):
        np.testing.assert_allclose(ours.astype(float), theirs, rtol=1e-13)


def test_the_mean_is_the_sum_over_n(notebook):
    _, params, x = notebook
    prediction, y = x[:, :1], params[-1]
    assert mean_squared_loss(prediction, y) == squared_loss(prediction, y) / 30
    u = np.ones(())
    np.testing.assert_allclose(
        mean_squared_loss.make_vjp(prediction, y)(u)[0],
        squared_loss.make_vjp(prediction, y)(u)[0] / 30,
        rtol=1e-15,
    )


def test_a_chain_is_a_function(notebook):
    funcs, params, x = notebook
    inner = compose(*funcs[:2])
    nested = backward_diff_chain(x, [inner, funcs[2]], [params[:2], params[2]])
    flat = backward_diff_chain(x, funcs, params)
    assert nested[0] == flat[0]
    for ours, theirs in zip(nested[2][0], flat[2][:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_function_without_a_vjp_says_so():
    from lockstep.backends.numpy_vjp import Function

    @Function
    def forward_only(x, w):
        return x

    with pytest.raises(TypeError, match="forward_only has no VJP"):
        forward_only.make_vjp(np.ones(2))
