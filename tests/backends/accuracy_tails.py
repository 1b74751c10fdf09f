"""Where a framework is worse than 8 ULP of the largest intermediate, how far, and why. A test fails on a row not needed."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.special


def everywhere() -> bool:
    """The formula itself is the cause, whatever kernel computes it."""
    return True


def onednn_uses_avx512() -> bool:
    """oneDNN goes by the processor and ONEDNN_MAX_CPU_ISA; ATEN_CPU_CAPABILITY does not reach it."""
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    allowed = limit.startswith(("ALL", "DEFAULT", "AVX512", "AVX10"))
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_supported() and allowed


@functools.cache
def xla_fuses() -> bool:
    """XLA rounds a product and a sum once where the processor can: (1 + ε)(1 − ε) − 1 is −ε² then, and 0 in two roundings."""
    import jax

    one, small = np.float32(1), np.float32(2**-13)
    return bool(jax.jit(lambda x, y, z: x * y + z)(one + small, one - small, -one) != 0)


class Tail(NamedTuple):
    """A region where a backend's own formula passes a larger intermediate than the stated one.

    Attributes:
        labels: rows of `accuracy.ROWS` or `accuracy.LOSS_ROWS`.
        backends: whose.
        stages: "f", the value, or "x", the VJP.
        where: (x, for a loss p, y; finfo) -> where.
        passes: the same -> that larger intermediate, for u = 1; infinite where nothing can be asked.
        measured: the most ULP, of the stated formula's largest intermediate, found in a fixed sample.
        why: which function of the framework.
        holds: whether it is so on this machine; where not, the backend owes what all others owe.
    """

    labels: tuple[str, ...]
    backends: tuple[str, ...]
    stages: tuple[str, ...]
    where: Callable[[Any, Any, Any], Any]
    passes: Callable[[Any, Any, Any], Any]
    measured: str
    why: str
    holds: Callable[[], bool] = everywhere


def _flushed(x: Any, y: Any, info: Any) -> Any:
    """A denormal, not 0 itself."""
    return (np.abs(x - y) < info.tiny) & (x != y)


def _anything(x: Any, y: Any, info: Any) -> Any:
    return np.inf


def _one(x: Any, y: Any, info: Any) -> Any:
    return 1.0


TAILS: tuple[Tail, ...] = (
    Tail(
        ("log", "sqrt", "abs", "relu", "leaky_relu", "elu", "selu", "absolute_error", "quantile"),
        ("jax",),
        ("f", "x"),
        _flushed,
        _anything,
        "∞",
        "XLA on CPU takes a denormal for 0, where these, or their derivatives, are something else",
    ),
    Tail(
        ("elu", "selu"),
        ("jax",),
        ("x",),
        lambda x, y, info: x < 0,
        lambda x, y, info: 2.0,
        "1/ε",
        "jax differentiates expm1(x) as 1 + expm1(x), which cancels where eˣ is small",
    ),
    Tail(
        ("gelu",),
        ("torch",),
        ("f", "x"),
        lambda x, y, info: x < 0,
        lambda x, y, info: np.clip(np.abs(x), 1, 40),
        "1/ε",
        "torch takes Φ as (1 + erf(x/√2))/2, which cancels left of 0",
    ),
    Tail(
        ("gelu",),
        ("jax",),
        ("f",),
        lambda x, y, info: (x < -1) & (x > -40),
        lambda x, y, info: x * x * np.abs(x) * scipy.special.ndtr(x),
        "1100 in float64",
        "erfc multiplies the rounding of its argument x/√2 by x²",
    ),
    Tail(
        ("gelu",),
        ("jax",),
        ("x",),
        lambda x, y, info: (x < -1) & (x > -40),
        lambda x, y, info: x**4 * scipy.special.ndtr(x),
        "1100 in float64",
        "exp multiplies the rounding of x²/2 by as much",
    ),
    Tail(
        ("gelu",),
        ("torch",),
        ("f",),
        lambda x, y, info: x > float(info.max) / 2,
        _anything,
        "∞ in float32",
        "oneDNN's kernel for AVX-512 multiplies by 1 + erf, which is 2, before it halves; its others do not",
        holds=onednn_uses_avx512,
    ),
    Tail(
        ("gelu-tanh",),
        ("jax", "torch"),
        ("x",),
        lambda x, y, info: np.abs(x) > float(info.max) ** (1 / 3) / 2,
        _anything,
        "NaN",
        "x² or x³ overflows and is multiplied by the slope of tanh, which is 0",
    ),
    Tail(
        ("gelu-tanh",),
        ("jax",),
        ("f", "x"),
        lambda x, y, info: (np.abs(x) > 6.5) & (np.abs(x) < 8) & (info.bits == 64),
        lambda x, y, info: x * x * np.abs(x) / 4,
        "13 in float64",
        "with fused products jnp.tanh is off by 6 ULP just before it saturates, and its slope 1 − tanh² by twice that",
        holds=xla_fuses,
    ),
    Tail(
        ("tanh",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x) > 16) & (np.abs(x) < 22) & (info.bits == 64),
        lambda x, y, info: 2.0,
        "9.7 in float64",
        "with fused products jnp.tanh is off by 6 ULP just before it saturates, and its slope 1 − tanh² by twice that",
        holds=xla_fuses,
    ),
    Tail(
        ("softplus",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x) > 4) & (np.abs(x) < 40),
        lambda x, y, info: np.abs(x) / (1 + np.exp(-x)),
        "32 in float64",
        "logaddexp's derivative is e^(x − softplus(x)): the rounding of the difference, |x| ULP",
    ),
    Tail(
        ("log_sigmoid",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x) > 4) & (np.abs(x) < 40),
        lambda x, y, info: np.abs(x) / (1 + np.exp(x)),
        "30 in float64",
        "it is −softplus(−x), with softplus' derivative",
    ),
    Tail(
        ("logistic",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x) > 4) & (np.abs(x) < 40),
        lambda x, y, info: np.abs(x) * (y / (1 + np.exp(x)) + (1 - y) / (1 + np.exp(-x))),
        "32 in float64",
        "(1 − y) σ(p) − y σ(−p), both as softplus' derivative",
    ),
    Tail(
        ("huber", "smooth_l1"),
        ("jax",),
        ("x",),
        lambda x, y, info: np.abs(x - y) < 0.3,
        _one,
        "1/ε",
        "min(|e|, δ) is differentiated as δ + (|e| − δ): below an ULP of δ the derivative is 0",
    ),
    Tail(
        ("log_cosh",),
        ("jax", "torch"),
        ("x",),
        lambda x, y, info: np.abs(x - y) < 1,
        _one,
        "1/ε",
        "the derivative of logaddexp(e, −e) is the difference of two numbers near ½",
    ),
    Tail(
        ("log_cosh",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x - y) >= 1) & (np.abs(x - y) < 40),
        lambda x, y, info: np.abs(x - y),
        "12 in float64",
        "logaddexp's derivative is e^(e − log(2 cosh e)): the rounding of the difference, |e| ULP",
    ),
    Tail(
        ("quantile",),
        ("jax",),
        ("x",),
        lambda x, y, info: (np.abs(x - y) >= info.tiny) & (np.abs(x - y) < 16 * float(info.tiny)),
        _anything,
        "1/ε",
        "q r is a denormal, which XLA on CPU takes for 0: a tie",
    ),
    Tail(
        ("logistic",),
        ("torch",),
        ("f",),
        lambda x, y, info: x < 0,
        lambda x, y, info: np.abs(x),
        "1/ε",
        "torch computes (1 − y) p − log σ(p), which cancels for p < 0",
    ),
)


def beyond(label: str, backend: str, stage: str, x: np.ndarray, y: Any) -> np.ndarray:
    """The largest intermediate that a backend passes beyond the stated formula's, for u = 1; 0 where none."""
    info, largest = np.finfo(x.dtype), np.zeros(np.shape(x))
    x, y = np.asarray(x, float), np.asarray(y, float)
    for tail in TAILS:
        if label in tail.labels and stage in tail.stages and backend in tail.backends and tail.holds():
            with np.errstate(all="ignore"):
                passed = np.where(tail.where(x, y, info), tail.passes(x, y, info), 0)
            largest = np.maximum(largest, passed)
    return largest
