"""Functions of windows, sequences and batches, and the Gaussian likelihood: sums within γₙ Σ|terms|.

Functions and losses of single elements and of vectors are judged against fifty digits in test_accuracy.
"""

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.numpy_vjp.model import chain_of
from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from tests.backends.test_layers import SHAPED, flattened, parts
from tests.conftest import BACKENDS

OTHERS = [name for name in BACKENDS if name != "numpy"]
FAR = 1e30
"""A target out of reach: the absolute error's derivative there is ±1 whatever a backend's rounding of f."""

LINEAR = {"dropout", "embedding", "conv1d", "conv2d", "average_pool", "flatten", "max_pool"}
"""Sums of products: at |x| and |w| they and their VJPs give Σ|terms|."""

NORMALISING = {"layer_norm": "last", "rms_norm": "last", "batch_norm": "batch"}

COMPOSED = {"attention", "residual", "parallel"}
"""Chains of functions that are judged alone; test_layers holds them to 32 roundings of the largest element."""

HELD = LINEAR | NORMALISING.keys() | COMPOSED
"""The functions that this file and test_layers hold, not test_accuracy."""


def gamma(n, eps):
    """γₙ of Higham, with the unit rounding ε/2."""
    return n * eps / 2 / (1 - n * eps / 2)


def test_the_gaussian_likelihood(dtype):
    """Terms within 8 ULP of their parts, their sum within γₙ; the derivative in mean and log variance by elements."""
    rng = np.random.default_rng(2)
    p, y = 3 * rng.standard_normal((7, 4)), rng.random((7, 2))
    p[:, 2:] = np.abs(p[:, 2:])
    one = Problem(
        name="loss",
        x=p,
        y=y,
        model=(Layer("scale"),),
        loss=Loss("gaussian", reduction="sum"),
        optimizer=Optimizer("sgd", learning_rate=1.0),
        epochs=1,
        initial={"0.scale/s": np.ones(4)},
        dtype=dtype,
    )
    batch, eps = next(iter(one.batches())), float(np.finfo(dtype).eps)
    m, s = np.split(batch.x.astype(np.float64), 2, axis=-1)
    e = np.abs(m - batch.y) * np.exp(-s)
    terms = s + np.abs(m - batch.y) * e
    slopes = np.concatenate([e, 1 + np.abs(m - batch.y) * e], axis=-1)
    allowed = {
        "loss": (8 * eps + gamma(terms.size, eps)) * np.sum(terms),
        "cotangent/0.scale": 8 * eps * slopes,
    }
    found = {}
    for backend in BACKENDS:
        trainer = backends.load(backend).trainer(one)
        found[backend] = trainer.observe(trainer.init(), batch, list(allowed))
    for backend in OTHERS:
        for stage, bound in allowed.items():
            distance = np.abs(found[backend][stage].astype(np.float64) - found["numpy"][stage])
            assert (distance <= bound).all(), f"{backend} {stage}"


SUMS = [one for one in SHAPED if one[1].name in LINEAR]
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
