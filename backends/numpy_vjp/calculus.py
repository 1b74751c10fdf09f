"""The calculus of the seed: jvp, vjp and the Jacobian of a function or a chain (`compose`)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lockstep.backends.numpy_vjp.dual import tangents, to_dual
from lockstep.backends.numpy_vjp.function import Function, Param, Vjp
from lockstep.backends.problem import Array


def vjp(f: Function, x: Array, w: Param = None) -> tuple[Array, Vjp]:
    """The value f(x, w) and its pull-back u ↦ (J_f(x)ᵀu, J_f(w)ᵀu).

    Args:
        f: a function or a chain.
        x: where to differentiate.
        w: its parameter; for a chain the sequence of parameters.
    """
    return f(x, w), f.make_vjp(x, w)


def jvp(f: Function, x: Array, w: Param, v_x: Array, v_w: Param = None) -> Array:
    """J_f(x)v_x + J_f(w)v_w, by dual numbers: forward mode, independent of the VJPs.

    Args:
        f: a function or a chain.
        x, w: where to differentiate.
        v_x: direction in x, of its shape.
        v_w: direction in w, of its structure; None for zero.

    Returns:
        An array of the output's shape.
    """
    return tangents(f(to_dual(x, v_x), _dual_param(w, v_w)), np.result_type(x))


def _dual_param(w: Param, v: Param) -> Param:
    """The parameter with its direction as ε-part; where there is no direction, the parameter as it is."""
    if v is None or w is None:
        return w
    if isinstance(w, (tuple, list)):
        return tuple(_dual_param(part, direction) for part, direction in zip(w, v, strict=True))
    return to_dual(w, v)


def jacobian(
    f: Function, x: Array, w: Param = None, mode: Literal["reverse", "forward"] = "reverse"
) -> Array:
    """J_f(x), of shape output.shape + x.shape.

    Args:
        f: a function or a chain.
        x, w: where to differentiate; the derivative is with respect to x.
        mode: ``reverse`` takes one vjp a row (output element), ``forward`` one jvp a column (input element).
    """
    value = f(x, w)
    if mode == "reverse":
        pull = f.make_vjp(x, w)
        rows = [pull(u)[0] for u in _basis(np.shape(value), np.result_type(x))]
        return np.stack(rows).reshape(np.shape(value) + np.shape(x))
    columns = [jvp(f, x, w, v) for v in _basis(np.shape(x), np.result_type(x))]
    return np.stack(columns, axis=-1).reshape(np.shape(value) + np.shape(x))


def _basis(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """The unit vectors of a space of arrays of `shape`, stacked along the first axis."""
    size = int(np.prod(shape))
    return np.eye(size, dtype=dtype).reshape(size, *shape)
