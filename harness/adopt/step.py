"""A user's own whole training step as a trainer: the backend that knows what its state holds adopts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from lockstep import backends
from lockstep.backends import keras_objects
from lockstep.backends.adoption import Adopted, AdoptionError, check_kind, failing
from lockstep.backends.steps import FACTORY, FORMS, Chosen, GivenStep, Step, required
from lockstep.harness.adopt.candidates import candidates


def adopt_step(
    step: Step | Callable[[], Any],
    state: Any = None,
    *,
    parameters: Chosen = None,
    seed: int | None = None,
    name: str | None = None,
) -> Adopted:
    """Your own training step as a trainer, where it cannot be taken apart into model, loss and optimizer.

    It is judged by whole runs and, in lockstep, by what each step makes of equal parameters; there are no gradients and
    no stages inside of a step.

    Args:
        step: ``step(state, batch)`` or ``step(state, x, y)``, jitted or not; a batch is the pair (x, y). The parts of a tuple
            may be its first arguments, ``step(params, opt_state, x, y)``. It returns the new state and the loss, or, where it
            moves its objects in place, the loss alone; that may then be ``step(batch)``, which holds the state itself.
            The loss is a scalar, under ``loss`` in a dict of metrics, first in a tuple, or what a metric computes. Or a
            function without arguments that makes (step, state) anew, where a copy of yours is refused.
        state: what a step moves. For JAX any tree, as a Flax TrainState, (params, opt_state), an Equinox module and
            its optimizer's state, or NNX objects. For torch the modules, optimizers and schedulers in a dict, a tuple or an object
            of yours; of Keras the model. Nothing of it is changed, nor used up, since every run works on a copy.
        parameters: which leaves of a JAX state are parameters, where that is not found. A path in it (``"params"``), paths with
            ``*`` for any letters, or a function path -> bool.
        seed: what the generator of torch, or of Keras on torch, starts every step from, with the step's number; None leaves
            it alone, and a step that draws from it is refused.
        name: what reports call it; by default its framework's.

    Raises:
        AdoptionError: no backend knows what the state holds, or it has no parameters.
    """
    called = name or "step"
    check_kind(called, "the step", step, callable(step), f"give {FORMS}")
    make = step if state is None and not required(step) else None
    if make is not None:
        step, state = _made(called, make)
    given = GivenStep(step, state, make, parameters, seed, called)
    asked = {one: getattr(backends.load(one), "adopt_step", _knows_none) for one in candidates()}
    # Keras' objects come first: on torch they are torch modules, too, with an optimizer that is none of torch's.
    for one, ask in {"keras": keras_objects.adopt_step, **asked}.items():
        trainer: Adopted | None = ask(dataclasses.replace(given, name=name or one))
        if trainer is not None:
            return trainer
    raise AdoptionError(
        f"{called}: nothing that trains is found in its state",
        f"{type(state).__name__}: {str(state)[:200]}",
        "give the state that a step moves: a tree with JAX arrays, or torch modules and their optimizers, in a dict say",
    )


def _made(name: str, make: Callable[[], Any]) -> tuple[Step, Any]:
    with failing(f"{name}: what makes its step failed", FACTORY):
        made = make()
    good = isinstance(made, tuple) and len(made) == 2 and callable(made[0])
    check_kind(name, "what its function makes", made, good, f"return (step, state); {FACTORY}")
    step, state = made
    return step, state


def _knows_none(given: GivenStep) -> None:
    """The answer of a backend that adopts no steps."""
