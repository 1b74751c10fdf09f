"""Every function and loss of the registry: across backends, at kinks and tails, and by the frameworks' own judges."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from lockstep import backends
from lockstep.backends.jax_haiku.wrap import wrap as wrap_jax
from lockstep.backends.numpy_vjp.calculus import jvp
from lockstep.backends.numpy_vjp.function import Function
from lockstep.backends.numpy_vjp.tables import FUNCTIONS, LOSSES
from lockstep.backends.ops import FUNCTIONS as RULES
from lockstep.backends.ops import LOSSES as LOSS_RULES
from lockstep.backends.problem import DTYPES, Layer, Loss, Optimizer, Problem
from lockstep.backends.pytorch.wrap import wrap as wrap_torch
from tests.backends.test_layers import SHAPED
from tests.conftest import BACKENDS

POSITIVE = {"log", "sqrt"}
"""Functions whose domain is x > 0."""

KINKED = {"abs", "relu", "leaky_relu", "elu", "selu"}
"""Functions that have no derivative at 0: finite differences across it mean nothing."""

SIZED = {"dot", "linear"}
EXTRA = {"gelu": [{"approximate": "tanh"}], "elu": [{"alpha": 0.5}], "leaky_relu": [{"slope": 0.3}]}
PLAIN = set(RULES) - {layer.name for _, layer, _ in SHAPED}
"""Functions of vectors; the others are in test_layers."""

MEMBERS = [(name, args) for name in RULES if name in PLAIN for args in ({}, *EXTRA.get(name, []))]
LOSS_MEMBERS = [(name, {"reduction": how}) for name in LOSS_RULES for how in ("sum", "mean")] + [
    ("huber", {"delta": 0.3}),
    ("smooth_l1", {"beta": 0.3}),
    ("quantile", {"q": 0.9}),
]


def named(member):
    name, args = member
    return "-".join([name, *map(str, args.values())])


def arguments(name, args):
    rule = {**LOSS_RULES, **RULES}[name]
    sized = {"size": 2} if name in SIZED else {}
    return {**{key: one.default for key, one in rule.arguments.items()}, **sized, **args}


def links(member, x):
    """The NumPy functions that a member is made of, each with the parameter and the input to judge it at."""
    name, args = member
    shapes = RULES[name].parameters((3,), arguments(name, args))
    rng = np.random.default_rng(1)
    for f, leaf in FUNCTIONS[name](arguments(name, args)):
        w = None if leaf is None else rng.standard_normal(shapes[leaf])
        yield f, w, x
        x = f(x, w)


def away_from_kinks(x, name):
    x = np.abs(x) + 0.1 if name in POSITIVE else x
    return np.where(np.abs(x) < 0.05, 0.3, x) if name in KINKED else x


def in_both_dtypes(members, some):
    """Of float32 some; test_accuracy has all of them there, against fifty digits."""
    for member in members:
        for dtype in DTYPES:
            marks = () if dtype == "float64" or member[0] in some else pytest.mark.sweep
            yield pytest.param(member, dtype, marks=marks, id=f"{named(member)}-{dtype}")


def test_every_backend_has_every_member():
    for name in BACKENDS:
        for op, args in MEMBERS:
            sized = {"size": 3} if op in SIZED else {}
            assert backends.load(name).supports(problem(op, {**args, **sized}, np.ones((2, 3)))) is None
        for loss, args in LOSS_MEMBERS:
            x = np.ones((2, *LOSS_RULES[loss].prediction((3,))))
            one = problem("add", {}, x, Loss(loss, **args), np.ones((2, 3)))
            assert backends.load(name).supports(one) is None


def problem(op, args, x, loss=None, y=None, dtype="float64", parameters=None):
    """Examples through ``x + 0`` and the op, so that cotangent/0.add is the op's VJP with respect to x."""
    layers = (Layer("add"), Layer(op, **args))
    rng = np.random.default_rng(5)
    shapes = RULES[op].parameters((x.shape[1],), arguments(op, args))
    width = RULES[op].output((x.shape[1],), arguments(op, args))[0]
    return Problem(
        name="op",
        x=x,
        y=rng.standard_normal((len(x), width)) if y is None else y,
        model=layers,
        loss=loss or Loss("squared_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=0.1),
        epochs=1,
        initial={
            "0.add/b": np.zeros(x.shape[1]),
            **{
                f"1.{op}/{name}": (parameters or rng.standard_normal)(shape) for name, shape in shapes.items()
            },
        },
        dtype=dtype,
    )


def stages(name, one):
    trainer = backends.load(name).trainer(one)
    batch = next(iter(one.batches()))
    return trainer.observe(trainer.init(), batch, ["forward", "loss", "cotangent", "gradient"])


def assert_close_stages(one, x, forward=8, backward=32):
    """Within `forward` and `backward` roundings of the largest intermediate: input, output or cotangent, at least 1.

    The VJP multiplies by u = 2(f − y), which carries f's own rounding with it.
    """
    eps = float(np.finfo(one.dtype).eps)
    reference = stages("numpy", one)
    for name in set(BACKENDS) - {"numpy"}:
        found = stages(name, one)
        assert list(found) == list(reference)
        for stage, expected in reference.items():
            assert found[stage].dtype == expected.dtype == one.dtype, stage
            scale = max(1.0, np.abs(x).max(), np.abs(expected).max(), np.abs(reference["loss"]))
            allowed = (forward if stage.startswith("forward") else backward) * eps * scale
            np.testing.assert_allclose(
                found[stage], expected, rtol=0, atol=allowed, err_msg=f"{name} {stage}"
            )


@pytest.mark.parametrize(("member", "dtype"), list(in_both_dtypes(MEMBERS, ("linear", "tanh", "softmax"))))
def test_functions_agree_forward_and_backward(member, dtype):
    name, args = member
    rng = np.random.default_rng(2)
    x = rng.standard_normal((6, 3)) * 2
    x = np.abs(x) + 0.1 if name in POSITIVE else x
    sized = {"size": 3} if name in SIZED else {}
    assert_close_stages(problem(name, {**args, **sized}, x, dtype=dtype), x)


@pytest.mark.parametrize("member", [m for m in MEMBERS if m[0] not in SIZED | POSITIVE], ids=named)
def test_conventions_at_kinks_and_ties_are_equal(member):
    """Exact zeros of either sign, and ties along the last axis."""
    name, args = member
    x = np.array([[0.0, -0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, -1.0]])
    assert_close_stages(problem(name, args, x), x)


@pytest.mark.parametrize(("member", "dtype"), list(in_both_dtypes(LOSS_MEMBERS, ("squared_error", "huber"))))
def test_losses_agree(member, dtype):
    name, args = member
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((5, *LOSS_RULES[name].prediction((3,)))), rng.random((5, 3))
    if name == "softmax_cross_entropy":
        y /= y.sum(-1, keepdims=True)
    assert_close_stages(problem("add", {}, x, Loss(name, **args), y, dtype, np.zeros), x)


@pytest.mark.parametrize("name", LOSS_RULES)
def test_losses_agree_at_zero_error_and_at_large_arguments(name):
    large = 600.0 if name == "poisson" else 1e3
    x = np.array([[0.0, 1.0, -1.0], [large, -large, 0.5]])
    y = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    x = np.tile(x, LOSS_RULES[name].prediction((3,))[0] // 3)
    one = problem("add", {}, x, Loss(name, reduction="mean"), y, parameters=np.zeros)
    np.testing.assert_array_equal(stages("numpy", one)["forward/1.add"], x)  # so that zero errors are zero
    assert np.isfinite(stages("numpy", one)["loss"])
    assert_close_stages(one, x)


@pytest.mark.parametrize("member", MEMBERS, ids=named)
def test_torchs_gradcheck_passes_every_function(member):
    rng = np.random.default_rng(3)
    for f, w, x in links(member, away_from_kinks(rng.standard_normal((4, 3)), member[0])):
        tensors = [torch.tensor(value, requires_grad=True) for value in (x, w) if value is not None]
        assert torch.autograd.gradcheck(wrap_torch(f), tensors, nondet_tol=0.0)


@pytest.mark.parametrize("member", LOSS_MEMBERS, ids=named)
def test_torchs_gradcheck_passes_every_loss(member):
    name, args = member
    rng = np.random.default_rng(3)
    f = LOSSES[name](arguments(name, args))
    shape = (4, *LOSS_RULES[name].prediction((3,)))
    p = torch.tensor(rng.standard_normal(shape) * 2, requires_grad=True)
    assert torch.autograd.gradcheck(wrap_torch(f), (p, torch.tensor(rng.random((4, 3)))))


@pytest.mark.parametrize("member", MEMBERS, ids=named)
def test_jaxs_check_grads_passes_every_function(member):
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        for f, w, x in links(member, away_from_kinks(rng.standard_normal((4, 3)), member[0])):
            values = tuple(jax.numpy.asarray(value) for value in (x, w) if value is not None)
            check_grads(wrap_jax(f), values, order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("member", LOSS_MEMBERS, ids=named)
def test_jaxs_check_grads_passes_every_loss(member):
    name, args = member
    f = LOSSES[name](arguments(name, args))
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        y = jax.numpy.asarray(rng.random((4, 3)))
        p = jax.numpy.asarray(rng.standard_normal((4, *LOSS_RULES[name].prediction((3,)))) * 2)
        check_grads(lambda p: wrap_jax(f)(p, y), (p,), order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


def wrong():
    @Function
    def cube(x, w=None):
        return x**3

    @cube.define_vjp
    def make_vjp(x, w=None):
        return lambda u: (u * 2 * x**2, None)  # the factor is 3

    return cube


def test_the_judges_catch_a_wrong_vjp():
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(
            wrap_torch(wrong()), torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        )
    with jax.enable_x64(True), pytest.raises(AssertionError, match="VJP"):
        check_grads(wrap_jax(wrong()), (jax.numpy.asarray([1.0, 2.0]),), order=1, modes=["rev"])


def test_wrapped_functions_work_under_jit():
    ((f, _, _),) = links(("tanh", {}), np.ones(1))
    with jax.enable_x64(True):
        x = jax.numpy.asarray([0.3, -2.0])
        found = jax.jit(jax.grad(lambda x: wrap_jax(f)(x).sum()))(x)
        np.testing.assert_allclose(found, jax.grad(lambda x: jax.numpy.tanh(x).sum())(x), rtol=1e-14)


finite = st.floats(-3, 3, allow_subnormal=False)


@pytest.mark.parametrize("member", MEMBERS, ids=named)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_directional_differences_linearity_and_adjoint(member, data):
    """f(x + hv) − f(x − hv) over 2h is Jv; uᵀ(Jv) = (Jᵀu)ᵀv; the VJP is linear in u."""
    start = away_from_kinks(data.draw(arrays(np.float64, (2, 3), elements=finite)), member[0])
    for f, w, x in links(member, start):
        v = data.draw(arrays(np.float64, x.shape, elements=finite))
        value, pull = f(x, w), f.make_vjp(x, w)
        a, b = (data.draw(arrays(np.float64, value.shape, elements=finite)) for _ in range(2))
        h = 1e-5
        slope = (f(x + h * v, w) - f(x - h * v, w)) / (2 * h)
        bound = 1e-6 * (1 + np.abs(a).max()) * (1 + np.abs(slope).max())
        assert abs(np.sum(a * slope) - np.sum(pull(a)[0] * v)) <= bound
        np.testing.assert_allclose(pull(2 * a + b)[0], 2 * pull(a)[0] + pull(b)[0], rtol=1e-12, atol=1e-12)


def assert_adjoint(f, w, x, differentiable=True):
    """uᵀ(Jv) = (Jᵀu)ᵀv, with Jv by dual numbers through the forward function and Jᵀu by the hand-written VJP."""
    rng = np.random.default_rng(9)
    v_x, v_w = rng.standard_normal(x.shape), None
    if w is not None and differentiable:
        v_w = rng.standard_normal(w.shape)
    push = jvp(f, x, w, v_x, v_w)
    u = rng.standard_normal(np.shape(push))
    grad_x, grad_w = f.make_vjp(x, w)(u)
    pulled = np.sum(grad_x * v_x) + (0 if v_w is None else np.sum(grad_w * v_w))
    assert np.abs(push).max() > 0
    assert np.sum(u * push) == pytest.approx(pulled, rel=1e-12, abs=1e-13 * np.abs(u * push).sum())


@pytest.mark.parametrize("member", MEMBERS, ids=named)
def test_dual_numbers_give_the_adjoint_of_every_vjp(member):
    rng = np.random.default_rng(8)
    for f, w, x in links(member, away_from_kinks(2 * rng.standard_normal((4, 3)), member[0])):
        assert_adjoint(f, w, x)


@pytest.mark.parametrize("member", LOSS_MEMBERS, ids=named)
def test_dual_numbers_give_the_adjoint_of_every_losss_vjp(member):
    name, args = member
    rng = np.random.default_rng(8)
    columns = LOSS_RULES[name].prediction((3,))[0]
    p = 2 * rng.standard_normal((4, columns))
    assert_adjoint(LOSSES[name](arguments(name, args)), rng.random((4, 3)), p, False)


def test_the_adjoint_identity_catches_a_wrong_vjp():
    with pytest.raises(AssertionError):
        assert_adjoint(wrong(), None, np.array([1.0, 2.0]))
