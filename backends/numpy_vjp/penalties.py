"""Penalties: values of the parameters that are added to the loss, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from lockstep.backends.numpy_vjp.arithmetic import Arithmetic, Number
from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays, Problem

Adding = Callable[[Array, Arrays, Arrays], tuple[Array, dict[str, Array]]]
"""(loss, gradients, parameters) -> loss and gradients with the penalties of a problem."""


class Term(NamedTuple):
    """A penalty of one parameter: w ↦ its value and its gradient."""

    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]


def l1(weight: Number) -> Term:
    """λ Σ |w|; sign(0) = 0 is the stated derivative there."""
    return Term(lambda w: weight * np.sum(np.abs(w)), lambda w: weight * np.sign(w))


def l2(weight: Number) -> Term:
    """(λ/2) Σ w²."""
    return Term(lambda w: 0.5 * weight * np.sum(w * w), lambda w: weight * w)


PENALTIES: Mapping[str, Callable[[Args], Term]] = {
    "l1": lambda args: l1(args["weight"]),
    "l2": lambda args: l2(args["weight"]),
}


def adding(problem: Problem, arithmetic: Arithmetic) -> Adding:
    """What adds the problem's penalties to a loss and its gradients."""
    terms = [
        (PENALTIES[penalty.name](arithmetic.args(penalty.args)), name)
        for penalty in problem.penalties
        for name in problem.penalised(penalty)
    ]

    def add(loss: Array, grads: Arrays, parameters: Arrays) -> tuple[Array, dict[str, Array]]:
        total = dict(grads)
        for term, name in terms:
            loss = loss + term.value(parameters[name])
            total[name] = total[name] + term.gradient(parameters[name])
        return loss, total

    return add
