"""Every function and loss element by element, forward and backward, in ULPs of the largest intermediate."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import backends
from backends.numpy_vjp.model import chain_of
from backends.ops import FUNCTIONS, LOSSES
from backends.problem import DTYPES, Batch, Layer, Loss, Optimizer, Problem
from tests.backends.accuracy import COMPOSED, LINEAR, LOSS_ROWS, NORMALISING, ROWS, TAILS, ULPS
from tests.backends.test_layers import SHAPED, flattened, parts
from tests.conftest import BACKENDS

OTHERS = [name for name in BACKENDS if name != "numpy"]
POSITIVE = {"log", "sqrt"}
FAR = 1e30
"""A target out of reach: the absolute error's derivative there is ±1 whatever a backend's rounding of f."""

PLACES = [0.0, 0.5, 1.0, 19.9, 20.0, 20.1, 87.0, 88.7, 100.0, 104.0, 700.0, 709.0, 745.0, 800.0, 1e4]
"""Kinks and thresholds: torch's softplus at 20, exponentials that over- or underflow in float32 and float64."""

GRID = np.concatenate([sign * np.concatenate([np.geomspace(1e-8, 50, 120), PLACES]) for sign in (-1, 1)])


def test_every_member_has_a_row():
    """A new function or loss fails here until its largest intermediate is stated."""
    rows = {key.partition("-")[0] for key in ROWS}
    assert rows | LINEAR | NORMALISING.keys() | COMPOSED == set(FUNCTIONS)
    assert LOSS_ROWS.keys() == set(LOSSES)


def within(key, x, dtype):
    """The grid's or hypothesis' values in the function's domain and range."""
    x = np.abs(x) + 1e-30 if key in POSITIVE else x
    x = np.minimum(x, 700.0 if dtype == "float64" else 80.0) if key == "exp" else x
    return x.astype(dtype)


@functools.cache
def trainer_of(backend, key, dtype, rows):
    name, _, form = key.partition("-")
    layer = Layer(name, **({"approximate": form} if form else {}))
    y = np.where(np.arange(rows * 3).reshape(rows, 3) % 2, FAR, -FAR)
    one = Problem(
        name="accuracy",
        x=np.ones((rows, 3)),
        y=y,
        model=(Layer("scale"), layer),
        loss=Loss("absolute_error", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=1.0),
        epochs=1,
        initial={"0.scale/s": np.ones(3)},
        dtype=dtype,
    )
    trainer = backends.load(backend).trainer(one)
    return trainer, y.astype(dtype), f"forward/1.{name}"


def observed(backend, key, dtype, x):
    """f(x) and J_f(x)ᵀu for u = ±1."""
    trainer, y, forward = trainer_of(backend, key, dtype, len(x))
    found = trainer.observe(trainer.init(), Batch(x, y), [forward, "cotangent/0.scale"])
    return {"forward": found[forward], "backward": found["cotangent/0.scale"]}


def ulps(key, dtype, x, backend):
    """How far `backend` is from NumPy, in ULPs of the largest intermediate, by direction.

    What is below finfo.tiny is compared absolutely, also where it is multiplied by x afterwards: JAX flushes it.
    """
    info = np.finfo(dtype)
    reference, found = observed("numpy", key, dtype, x), observed(backend, key, dtype, x)
    exact = x.astype(np.float64)
    distances = {}
    for direction, expected in reference.items():
        assert found[direction].dtype == expected.dtype == dtype
        with np.errstate(all="ignore"):
            scale = getattr(ROWS[key], direction)(exact, expected.astype(np.float64))
        unit = np.maximum(info.eps * np.nan_to_num(scale), info.tiny * (1 + np.abs(exact)))
        distance = np.abs(found[direction].astype(np.float64) - expected)
        assert np.isfinite(expected).all()
        distances[direction] = np.where(np.isfinite(found[direction]), distance / unit, np.inf)
    return distances


def assert_within(key, dtype, x):
    for backend in OTHERS:
        for direction, distance in ulps(key, dtype, x, backend).items():
            allowed = np.full(x.shape, float(ULPS))
            tail = TAILS.get((key, backend, dtype, direction))
            if tail is not None:
                allowed[tail.where(x)] = tail.ulps
            worst = np.unravel_index(np.argmax(distance / allowed), x.shape)
            assert distance[worst] <= allowed[worst], (
                f"{backend} {direction} {distance[worst]} ULP at {x[worst]!r}"
            )


@pytest.mark.parametrize("key", ROWS)
def test_elements_on_a_grid_of_tails_kinks_and_ties(key, dtype):
    x = np.concatenate([GRID, np.roll(GRID, 7), np.roll(GRID, 31), np.repeat(GRID, 3)]).reshape(-1, 3)
    assert_within(key, dtype, within(key, x, dtype))


magnitudes = st.one_of(
    st.floats(-50, 50, allow_subnormal=False), st.sampled_from([s * p for s in (-1, 1) for p in PLACES])
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("key", ROWS)
@settings(max_examples=25)
@given(x=arrays(np.float64, (4, 3), elements=magnitudes))
def test_elements_that_hypothesis_draws(key, dtype, x):
    assert_within(key, dtype, within(key, np.where(np.abs(x) < 1e-30, 0, x), dtype))


@pytest.mark.parametrize("row", TAILS, ids="-".join)
def test_every_tail_is_needed(row):
    """Within its region the framework exceeds the common bound; else the row has to go."""
    key, backend, dtype, direction = row
    x = np.linspace(-120, 120, 60_000)
    x = x[TAILS[row].where(x)][:30_000]
    x = within(key, x[: len(x) // 3 * 3].reshape(-1, 3), dtype)
    assert ULPS < ulps(key, dtype, x, backend)[direction].max() <= TAILS[row].ulps


@pytest.mark.parametrize("key", ["abs", "relu", "leaky_relu", "elu", "selu"])
def test_jax_takes_a_subnormal_for_zero(key, dtype):
    """It flushes subnormals, so at a kink it gives the derivative of 0; NumPy and torch give their own side's."""
    small = np.full((1, 3), np.finfo(dtype).smallest_subnormal * 8, dtype)
    at_zero = observed("jax", key, dtype, small * 0)
    for direction, value in observed("jax", key, dtype, small).items():
        np.testing.assert_allclose(value, at_zero[direction], rtol=0, atol=np.finfo(dtype).tiny)
    np.testing.assert_array_equal(
        observed("numpy", key, dtype, small)["backward"], observed("torch", key, dtype, small)["backward"]
    )


def loss_problem(name, dtype):
    rng = np.random.default_rng(2)
    columns = 4 if name == "gaussian" else 2
    p, y = 3 * rng.standard_normal((7, columns)), rng.random((7, 2))
    if name == "softmax_cross_entropy":
        y /= y.sum(-1, keepdims=True)
    if name == "gaussian":
        p[:, 2:] = np.abs(p[:, 2:])
    return Problem(
        name="loss",
        x=p,
        y=y,
        model=(Layer("scale"),),
        loss=Loss(name, reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=1.0),
        epochs=1,
        initial={"0.scale/s": np.ones(columns)},
        dtype=dtype,
    )


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_losses(name, dtype):
    """The sum within γₙ Σ|terms| and each term within 8 ULP; the derivative element by element."""
    one = loss_problem(name, dtype)
    batch, eps = next(iter(one.batches())), float(np.finfo(dtype).eps)
    p, y = batch.x.astype(np.float64), batch.y.astype(np.float64)
    terms, slopes = LOSS_ROWS[name].forward(p, y), LOSS_ROWS[name].backward(p, y)
    allowed = {
        "loss": (ULPS * eps + gamma(terms.size, eps)) * np.sum(terms),
        "cotangent/0.scale": ULPS * eps * slopes,
    }
    found = {}
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(one)
        found[backend] = trainer.observe(trainer.init(), batch, list(allowed))
    for backend in OTHERS:
        for stage, bound in allowed.items():
            assert (
                np.abs(found[backend][stage].astype(np.float64) - found["numpy"][stage]) <= bound
            ).all(), stage


def gamma(n, eps):
    """γₙ of Higham, with the unit rounding ε/2."""
    return n * eps / 2 / (1 - n * eps / 2)


VECTOR = [
    (name, Layer(name, **({"size": 4} if name in {"dot", "linear"} else {})), (3,))
    for name in ("dot", "add", "linear", "scale")
]
SUMS = [one for one in [*VECTOR, *SHAPED] if one[1].name in LINEAR]
NORMS = [one for one in SHAPED if one[1].name in NORMALISING]


def judged(layer, one, dtype, bounds):
    """The layer alone under u = ±1: each stage within the bound that `bounds` gives it."""
    one = one.replace(
        y=np.where(np.arange(one.y.size).reshape(one.y.shape) % 2, FAR, -FAR),
        loss=Loss("absolute_error", reduction="sum"),
        dtype=dtype,
    )
    batch = next(iter(one.batches()))
    found = {}
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(one)
        found[backend] = trainer.observe(trainer.init(), batch, list(bounds))
    for backend in OTHERS:
        assert set(found[backend]) == set(bounds)
        for stage, bound in bounds.items():
            distance = np.abs(found[backend][stage].astype(np.float64) - found["numpy"][stage])
            assert (distance <= bound).all(), (
                f"{backend} {stage}: {np.max(distance / bound)} of what is allowed"
            )


@pytest.mark.parametrize(("layer", "shape"), [pytest.param(*one, id=name) for name, *one in SUMS])
def test_sums_of_products(layer, shape, dtype):
    """Within γₙ Σ|terms|, the terms counted generously: all elements of a window, a column or the batch."""
    f, w, x, one = parts(layer, shape)
    eps = float(np.finfo(dtype).eps)
    absolute = resolve_absolute(w)
    size = x if layer.name in {"max_pool", "embedding"} else np.abs(x)
    value, (_, grads) = f(size, absolute), f.make_vjp(size, absolute)(np.ones_like(f(size, absolute)))
    bound = gamma(max(8, x.size), eps)
    bounds = {f"forward/{one.layers[-1].name}": bound * np.abs(value)}
    for name, sums in zip(ordered(one), flattened(grads), strict=True):
        bounds[f"gradient/{name}"] = bound * sums
    judged(layer, one, dtype, {stage: allowed + np.finfo(dtype).tiny for stage, allowed in bounds.items()})


def ordered(one):
    """The parameters' names in the chain's order."""
    chain = chain_of(one.layers, training=True)
    return [name for name in chain.names if name in one.initial]


def resolve_absolute(w):
    if isinstance(w, tuple):
        return tuple(resolve_absolute(part) for part in w)
    return None if w is None else np.abs(w)


@pytest.mark.parametrize(("layer", "shape"), [pytest.param(*one, id=name) for name, *one in NORMS])
def test_normalisations(layer, shape, dtype):
    """f = c/s: c within γ of |x| + mean |x|, s relatively; what follows is scaled and summed with that."""
    _, _, x, one = parts(layer, shape)
    x, eps = x * one.initial["0.scale/s"], float(np.finfo(dtype).eps)
    axes = (-1,) if NORMALISING[layer.name] == "last" else tuple(range(x.ndim - 1))
    mean = np.zeros_like(x) if layer.name == "rms_norm" else x.mean(axes, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + float(layer.args["epsilon"]))
    normal = (np.abs(x) + np.abs(x).mean(axes, keepdims=True)) / deviation
    bound = gamma(8 + 2 * x.size, eps)
    name = one.layers[-1].name
    initial = {key.rpartition("/")[2]: np.abs(value) for key, value in one.initial.items()}
    over = tuple(range(x.ndim - 1))
    bounds = {f"forward/{name}": bound * (normal * initial["scale"] + initial.get("offset", 0.0))}
    if "offset" in initial:
        bounds[f"gradient/{name}/offset"] = bound * np.ones_like(x).sum(over)
    bounds[f"gradient/{name}/scale"] = bound * normal.sum(over)
    judged(layer, one, dtype, bounds)
