"""What some Optax transforms take besides gradients and parameters: the loss, and the function that computes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import optax

from lockstep.backends.adoption import AdoptionError, Tree

Offered = Mapping[str, Any]
"""By the name under which a transform takes it."""

MISSING = re.compile(r"missing \d+ required keyword-only argument")


def offered(loss: Any, grads: Tree, value_of: Callable[[Tree], Any]) -> Offered:
    """What a whole step knows, by all names that Optax' transforms have for it.

    Args:
        loss: of this batch, before the update.
        grads: as they are given to the transform.
        value_of: parameters -> the loss of this batch.
    """

    def function(params: Tree, *, loss: Any = None, obj_fn: Any = None) -> Any:
        """A line search refuses arguments that neither it nor this function has."""
        return value_of(params)

    return {"value": loss, "loss": loss, "grad": grads, "value_fn": function, "obj_fn": function}


def update(
    transform: optax.GradientTransformation,
    grads: Tree,
    state: optax.OptState,
    params: Tree,
    known: Offered,
    fix: str,
) -> tuple[Tree, optax.OptState]:
    """The updates of a transform, which is given as much of what is known as it takes, and its state after them.

    Raises:
        AdoptionError: it needs more.
    """
    taken = {name: known[name] for name in _taken(transform) if name in known}
    try:
        updates: tuple[Tree, optax.OptState] = transform.update(grads, state, params, **taken)
    except TypeError as error:
        if MISSING.search(str(error)) is None:
            raise
        raise AdoptionError(
            "the optimizer takes what is not known where it is called", str(error), fix
        ) from error
    return updates


def _taken(transform: optax.GradientTransformation) -> list[str]:
    """The names of `offered` that its update takes; one of three arguments alone takes none."""
    parameters = inspect.signature(transform.update).parameters
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    names = offered(None, None, lambda params: None)
    return [name for name in names if every or name in parameters]
