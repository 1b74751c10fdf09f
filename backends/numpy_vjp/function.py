"""Function: a function f(x, w) together with its vector-Jacobian products, in the seed's functional style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.backends.errors import LockstepError
from lockstep.backends.problem import Array

Param = Any
"""The second argument of a function: an array, None where there is none, or a tuple of these for a chain."""

Vjp = Callable[[Array], tuple[Array, Param]]
"""u ↦ (J_f(x)ᵀu, J_f(w)ᵀu); the second is None where w is absent or a constant."""


class Function:
    """f(x, w), differentiable in x and w.

    Use it as a decorator on the forward function, then give it its VJPs::

        @Function
        def add(x, b):
            return x + b

        @add.define_vjp
        def add_make_vjp(x, b):
            def vjp(u):
                return u, u.sum(0)
            return vjp

    ``add(x, b)`` evaluates; ``add.make_vjp(x, b)`` gives ``vjp(u) -> (J_f(x)ᵀu, J_f(w)ᵀu)``. Forward and VJP
    are written with NumPy functions and operators alone, so that they run over float32, float64 and object
    arrays of any number type that has the usual methods.
    """

    def __init__(self, forward: Callable[[Array, Param], Array]) -> None:
        self._forward = forward
        self._make_vjp: Callable[[Array, Param], Vjp] | None = None
        self.__name__ = forward.__name__
        self.__doc__ = forward.__doc__

    def __call__(self, x: Array, w: Param = None) -> Array:
        """f(x, w)."""
        return self._forward(x, w)

    def __repr__(self) -> str:
        return f"<Function {self.__name__}>"

    def define_vjp(self, make_vjp: Callable[[Array, Param], Vjp]) -> Callable[[Array, Param], Vjp]:
        """Decorator: `make_vjp(x, w)` gives this function's vjp at (x, w)."""
        self._make_vjp = make_vjp
        return make_vjp

    def make_vjp(self, x: Array, w: Param = None) -> Vjp:
        """The function's vjp at (x, w).

        Raises:
            TypeError: no VJP was defined for it.
            VjpError: from the vjp, where a cotangent has not the shape and dtype of x or w.
        """
        if self._make_vjp is None:
            raise TypeError(f"{self.__name__} has no VJP: define one with @{self.__name__}.define_vjp")
        vjp = self._make_vjp(x, w)

        def checked(u: Array) -> tuple[Array, Param]:
            cotangents = vjp(u)
            for cotangent, argument, name in zip(cotangents, (x, w), ("x", "w"), strict=True):
                _refuse_other_form(self.__name__, name, cotangent, argument)
            return cotangents

        return checked


def _refuse_other_form(function: str, name: str, cotangent: Param, argument: Param) -> None:
    """Raise a VjpError where a cotangent has another shape or dtype than what it is of; frameworks reduce and cast it in silence."""
    if not (isinstance(cotangent, np.ndarray) and isinstance(argument, np.ndarray)):
        return  # none, a tuple of a chain's, or a number of another type
    if (cotangent.shape, cotangent.dtype) != (argument.shape, argument.dtype):
        raise VjpError(
            f"the VJP of {function} gives a cotangent of another form than its {name}",
            f"{cotangent.dtype} {cotangent.shape} for {argument.dtype} {argument.shape}",
            f"sum it over the axes along which {name} was broadcast, and keep the dtype",
        )


class VjpError(LockstepError):
    """A hand-written VJP does not give what a VJP is."""


def unbroadcast(u: Array, shape: tuple[int, ...]) -> Array:
    """Sum a cotangent over the axes along which a parameter of `shape` was broadcast: the adjoint of broadcasting."""
    lead = u.ndim - len(shape)
    stretched = tuple(
        axis for axis in range(u.ndim) if axis < lead or (shape[axis - lead] == 1 and u.shape[axis] != 1)
    )
    return u.sum(axis=stretched).reshape(shape) if stretched else u
