"""Which numbers the chain and the optimizers compute with: floats, twins or balls.

The formulas of this folder are written for any of them. What enters them, data, initial values and hyperparameters, is
lifted once; constants and numbers of steps are taken as numbers like those that they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays, Placed

Number = Any
"""A real number: a Python float, or an object with the usual operators and NumPy's names for functions."""


class Arithmetic(NamedTuple):
    """How floats enter.

    Attributes:
        number: a hyperparameter, a float64 as the problem states it.
        array: data, parameters, buffers, masks, in the problem's dtype.
    """

    number: Callable[[float], Number]
    array: Callable[[Array], Array]

    def arrays(self, arrays: Arrays) -> dict[str, Array]:
        """Each lifted."""
        return {name: self.array(value) for name, value in arrays.items()}

    def args(self, args: Args) -> dict[str, Any]:
        """The arguments of a member with their floats lifted."""
        return {name: self._lifted(value) for name, value in args.items()}

    def layers(self, layers: Iterable[Placed]) -> tuple[Placed, ...]:
        """The layers, and those in their branches, with their arguments lifted."""
        return tuple(
            layer._replace(
                args=self.args(layer.args),
                branches=tuple(self.layers(branch) for branch in layer.branches),
            )
            for layer in layers
        )

    def _lifted(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._lifted(one) for one in value)
        return self.number(value) if isinstance(value, float) else value


FLOATS = Arithmetic(lambda value: value, lambda array: array)
"""NumPy's own floats."""
