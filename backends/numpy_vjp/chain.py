"""The chain: evaluation and reverse-mode differentiation of composed functions. The seed's core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from lockstep.backends.numpy_vjp.function import Function, Param, Vjp
from lockstep.backends.numpy_vjp.special import one
from lockstep.backends.problem import Array


@overload
def evaluate_chain(
    x: Array, funcs: Sequence[Function], params: Sequence[Param], return_all: Literal[False] = False
) -> Array: ...
@overload
def evaluate_chain(
    x: Array, funcs: Sequence[Function], params: Sequence[Param], return_all: Literal[True]
) -> list[Array]: ...
def evaluate_chain(
    x: Array, funcs: Sequence[Function], params: Sequence[Param], return_all: bool = False
) -> Array | list[Array]:
    """X ↦ f_K(… f_1(x, w_1) …, w_K).

    Args:
        x: the input of the first function.
        funcs: f_1 … f_K.
        params: w_1 … w_K; None for a function without a parameter, the target for a loss.
        return_all: also return the input and every value on the way.

    Returns:
        The final value; with `return_all` the list of K + 1 values, x first.

    Raises:
        ValueError: there are not as many parameters as functions.
    """
    values = [x]
    for f, w in zip(funcs, params, strict=True):
        values.append(f(values[-1], w))
    return values if return_all else values[-1]


def backward_diff_chain(
    x: Array, funcs: Sequence[Function], params: Sequence[Param]
) -> tuple[Array, Array, list[Param]]:
    """Reverse-mode differentiation of a chain that ends in a real number.

    Args:
        x: the input of the first function.
        funcs: f_1 … f_K, the last one real-valued.
        params: w_1 … w_K.

    Returns:
        The value, its gradient with respect to x, and its gradients with respect to all parameters (None for
        a function without one and for the constants of the loss).
    """
    values = evaluate_chain(x, funcs, params, return_all=True)
    cotangents, grads = pull_back(values, funcs, params, one(values[-1]))
    return values[-1], cotangents[0], grads


def pull_back(
    values: Sequence[Array], funcs: Sequence[Function], params: Sequence[Param], u: Array
) -> tuple[list[Array], list[Param]]:
    """Pull the cotangent u of a chain's value back through it, from the right to the left.

    Args:
        values: the K + 1 values of `evaluate_chain` with `return_all`.
        funcs: f_1 … f_K.
        params: w_1 … w_K.
        u: cotangent of the final value, of its shape.

    Returns:
        The K + 1 cotangents, one per value, and the K products J_{f_k}(w_k)ᵀu_k.
    """
    cotangents, grads = [u], []
    for f, w, x in zip(reversed(funcs), reversed(params), reversed(values[:-1]), strict=True):
        u, grad = f.make_vjp(x, w)(u)
        cotangents.append(u)
        grads.append(grad)
    return cotangents[::-1], grads[::-1]


def compose(*funcs: Function) -> Function:
    """The chain of `funcs` as one Function; its parameter is the sequence of theirs."""

    @Function
    def composed(x: Array, params: Sequence[Param]) -> Array:
        return evaluate_chain(x, funcs, params)

    @composed.define_vjp
    def make_vjp(x: Array, params: Sequence[Param]) -> Vjp:
        values = evaluate_chain(x, funcs, params, return_all=True)

        def vjp(u: Array) -> tuple[Array, tuple[Param, ...]]:
            cotangents, grads = pull_back(values, funcs, params, u)
            return cotangents[0], tuple(grads)

        return vjp

    composed.__name__ = " ∘ ".join(f.__name__ for f in reversed(funcs))
    composed.__doc__ = f"The chain {composed.__name__}."
    return composed
