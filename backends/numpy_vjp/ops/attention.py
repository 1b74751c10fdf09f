"""Scaled dot-product attention over the heads of projected queries, keys and values."""

from __future__ import annotations

import numpy as np

from lockstep.backends.numpy_vjp.function import Function, Vjp
from lockstep.backends.numpy_vjp.ops.softmax import softmax
from lockstep.backends.numpy_vjp.special import like, sqrt
from lockstep.backends.problem import Array


def _split(x: Array, heads: int) -> tuple[Array, ...]:
    """(n, t, 3·width) as Q, K, V, each (n, heads, t, width/heads)."""
    n, t, columns = x.shape
    parts = x.reshape(n, t, 3, heads, columns // (3 * heads))
    q, k, v = np.moveaxis(parts, (2, 3), (0, 2))
    return q, k, v


def _merge(parts: list[Array]) -> Array:
    """The adjoint, and inverse, of `_split`."""
    stacked = np.moveaxis(np.stack(parts), (0, 2), (2, 3))
    return stacked.reshape(*stacked.shape[:2], -1)


def _transposed(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def attend(heads: int, causal: bool) -> Function:
    """f(x) = softmax(Q Kᵀ/√d) V by heads (Vaswani et al., 2017), for x = (Q, K, V) side by side, (n, t, 3·width).

    Causal: place i sees places up to i, the logits of later ones are −∞.
    """

    def weights(q: Array, k: Array) -> Array:
        logits = np.matmul(q, _transposed(k)) / sqrt(like(q, q.shape[-1]))
        if causal:
            logits = np.where(np.tri(logits.shape[-1], dtype=bool), logits, like(logits, -np.inf))
        return softmax(logits)

    def joined(values: Array) -> Array:
        """(n, heads, t, d) as (n, t, width)."""
        turned = np.swapaxes(values, 1, 2)
        return turned.reshape(*turned.shape[:2], -1)

    @Function
    def f(x: Array, w: None = None) -> Array:
        q, k, v = _split(x, heads)
        return joined(np.matmul(weights(q, k), v))

    @f.define_vjp
    def make_vjp(x: Array, w: None = None) -> Vjp:
        """With P = softmax(S), O = P V: V̄ = Pᵀu, P̄ = u Vᵀ, S̄ = P ⊙ (P̄ − Σ P ⊙ P̄), Q̄ = S̄ K/√d, K̄ = S̄ᵀQ/√d."""
        q, k, v = _split(x, heads)
        p = weights(q, k)

        def vjp(u: Array) -> tuple[Array, None]:
            by_head = np.swapaxes(u.reshape(*u.shape[:2], heads, -1), 1, 2)
            p_bar = np.matmul(by_head, _transposed(v))
            s_bar = p * (p_bar - np.sum(p * p_bar, axis=-1, keepdims=True)) / sqrt(like(q, q.shape[-1]))
            q_bar, k_bar = np.matmul(s_bar, k), np.matmul(_transposed(s_bar), q)
            return _merge([q_bar, k_bar, np.matmul(_transposed(p), by_head)]), None

        return vjp

    f.__name__ = "attend"
    return f
