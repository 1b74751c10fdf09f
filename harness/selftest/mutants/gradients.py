"""Bugs of the gradients: of the backward pass, of clipping, of accumulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lockstep.backends.problem import UNCLIPPED, Array, Arrays, Clip, Problem
from lockstep.harness.explanations import (
    ACCUMULATION,
    CLIP,
    CONSTANT_RATIO,
    NO_GRADIENT,
    SIGN,
    SINGLE_PRECISION,
    STALE_GRADIENT,
    TRANSPOSED_GRADIENT,
)
from lockstep.harness.runs.intervention import Intervention, OnGradients, StepContext
from lockstep.harness.selftest.mutants.mutant import (
    CLIPPED,
    GRADIENT,
    HIDDEN,
    OPTIMIZER,
    Mutant,
    Plant,
    Rng,
    each,
    leaf,
    program,
    single,
    small,
)


def _grads(change: OnGradients) -> Plant:
    return lambda problem, rng: Intervention(on_gradients=change)


def _times(factor: Callable[[Problem], float]) -> Plant:
    def plant(problem: Problem, rng: Rng) -> Intervention:
        by = factor(problem)
        return Intervention(on_gradients=lambda grads, context: each(lambda grad: by * grad)(grads))

    return plant


def _one_grad(change: Callable[[Array, Rng], Array]) -> Plant:
    """The gradient of one parameter."""

    def plant(problem: Problem, rng: Rng) -> Intervention:
        name, seed = leaf(problem.parameter_shapes, rng), int(rng.integers(1 << 30))

        def on_gradients(grads: Arrays, context: StepContext) -> Arrays:
            return {**grads, name: change(grads[name], np.random.default_rng(seed))}

        return Intervention(on_gradients=on_gradients)

    return plant


def _one_element(grad: Array, rng: Rng) -> Array:
    changed = grad.copy()
    changed.flat[int(np.abs(grad).argmax())] *= 1 + small(rng)
    return changed


def _transposed(problem: Problem, rng: Rng) -> Intervention:
    square = [
        name for name, shape in problem.parameter_shapes.items() if len(shape) == 2 and shape[0] == shape[1]
    ]
    return Intervention(
        on_gradients=lambda grads, context: {**grads, **{name: grads[name].T for name in square}}
    )


def _clipped_each(grads: Arrays, context: StepContext) -> Arrays:
    """Each parameter by its own norm."""
    return {
        name: grad * min(1.0, 0.05 / (float(np.linalg.norm(grad)) + 1e-300)) for name, grad in grads.items()
    }


def _not_zeroed(grads: Arrays, context: StepContext) -> Arrays:
    return {name: grad + context.previous.get(name, 0) for name, grad in grads.items()}


GRADIENTS = (
    Mutant("the wrong sign", GRADIENT, ("seed", "momentum"), _times(lambda problem: -1.0), SIGN),
    Mutant(
        "gradients summed over the rows",
        GRADIENT,
        ("momentum", "huber"),
        _times(lambda problem: float(len(problem.x))),
        CONSTANT_RATIO,
    ),
    Mutant(
        "gradients twice as large",
        GRADIENT,
        ("seed", "momentum"),
        _times(lambda problem: 2.0),
        CONSTANT_RATIO,
    ),
    Mutant(
        "one gradient left out",
        GRADIENT,
        ("adam", "momentum"),
        _one_grad(lambda grad, rng: np.zeros_like(grad)),
        NO_GRADIENT,
    ),
    Mutant(
        "one gradient scaled",
        GRADIENT,
        ("adam", "momentum"),
        _one_grad(lambda grad, rng: grad * (1 + small(rng))),
        CONSTANT_RATIO,
    ),
    Mutant("one element of a gradient scaled", GRADIENT, ("adam", "momentum"), _one_grad(_one_element)),
    Mutant(
        "gradients rounded to float32",
        GRADIENT,
        ("seed", "adam", "minibatches"),
        _grads(lambda grads, context: each(single)(grads)),
        SINGLE_PRECISION,
    ),
    Mutant("a square gradient transposed", GRADIENT, ("probe-square",), _transposed, TRANSPOSED_GRADIENT),
    Mutant(
        "gradients of each parameter clipped by themselves",
        GRADIENT | OPTIMIZER,
        ("clip-norm-exact",),
        _grads(_clipped_each),
    ),
    Mutant(
        "gradients of the step before",
        GRADIENT | HIDDEN,
        ("seed", "momentum", "adam"),
        _grads(lambda grads, context: context.previous or grads),
        STALE_GRADIENT,
    ),
    Mutant("gradients not set to zero", GRADIENT | HIDDEN, ("seed", "momentum"), _grads(_not_zeroed)),
)

SURROUNDINGS = (
    Mutant(
        "no clipping",
        CLIPPED,
        ("clip-norm", "clip-value"),
        program(lambda p: p.replace(clip=UNCLIPPED)),
        CLIP,
    ),
    Mutant(
        "clipping by value for norm",
        CLIPPED,
        ("clip-norm",),
        program(lambda p: p.replace(clip=Clip("value", limit=p.clip.args["limit"]))),
        CLIP,
    ),
    Mutant(
        "epsilon added to the norm",
        CLIPPED,
        ("clip-norm-exact",),
        program(lambda p: p.replace(clip=Clip("norm", limit=p.clip.args["limit"], epsilon=1e-6))),
    ),
    Mutant(
        "accumulated gradients summed",
        GRADIENT | OPTIMIZER,
        ("accumulated",),
        _times(lambda problem: float(problem.accumulation)),
        ACCUMULATION,
    ),
)
