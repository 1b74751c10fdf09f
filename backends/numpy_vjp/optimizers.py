"""Optimizers as pure pairs: `init` makes the state, `update` turns gradients into updates.

Each is written for one parameter, with the formulas that `backends.ops.OPTIMIZERS` states; `over_names` lifts it to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from backends.numpy_vjp.schedules import Factor
from backends.ops import OPTIMIZERS as RULES
from backends.ops import Args
from backends.problem import Array, Arrays

Updates = dict[str, Array]
OptimizerState = dict[str, Array]
Slots = dict[str, Array]
"""What is kept for one parameter, by the name that the registry gives it."""

Rate = float | Callable[[int], float]
"""A learning rate, or that of update t = 0, 1, 2, ..."""

Rule = Callable[[Array, Array, Slots, int], tuple[Array, Slots]]
"""(gradient, parameter, slots, step from 1) -> (update to add, next slots)."""


class Transform(NamedTuple):
    """A pure optimizer over named arrays.

    Attributes:
        init: parameters -> state before the first step, ``<slot>/<parameter>``.
        update: (gradients, state, parameters, step from 1) -> (updates to add, next state).
    """

    init: Callable[[Arrays], OptimizerState]
    update: Callable[[Arrays, OptimizerState, Arrays, int], tuple[Updates, OptimizerState]]


def over_names(rule: Rule, slots: Mapping[str, float]) -> Transform:
    """The rule applied to every parameter that has a gradient; `slots` gives the initial value of each slot."""

    def init(params: Arrays) -> OptimizerState:
        return {
            f"{slot}/{name}": np.full_like(value, start)
            for slot, start in slots.items()
            for name, value in params.items()
        }

    def update(
        grads: Arrays, state: OptimizerState, params: Arrays, step: int
    ) -> tuple[Updates, OptimizerState]:
        updates, new = {}, dict(state)
        for name, grad in grads.items():
            before = {slot: state[f"{slot}/{name}"] for slot in slots}
            updates[name], after = rule(grad, params[name], before, step)
            new.update({f"{slot}/{name}": value for slot, value in after.items()})
        return updates, new

    return Transform(init, update)


def update_params(updates: Arrays, params: Arrays) -> dict[str, Array]:
    """New parameters: each plus its update; a parameter without an update stays as it is."""
    return {name: value + updates[name] if name in updates else value for name, value in params.items()}


def sgd(
    learning_rate: Rate,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Transform:
    """Gradient descent: the update is −η g, or −η b with momentum."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = _decayed(g, w, weight_decay)
        if not momentum:
            return -_at(learning_rate, step) * g, {}
        b = g if step == 1 else momentum * slots["momentum"] + (1 - dampening) * g
        return -_at(learning_rate, step) * (g + momentum * b if nesterov else b), {"momentum": b}

    return over_names(rule, {"momentum": 0.0} if momentum else {})


def adagrad(
    learning_rate: Rate, initial_accumulator: float, epsilon: float, weight_decay: float
) -> Transform:
    """Duchi, Hazan, Singer, "Adaptive subgradient methods" (2011), with ε outside the root."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = _decayed(g, w, weight_decay)
        total = slots["sum"] + g * g
        return -_at(learning_rate, step) * g / (np.sqrt(total) + epsilon), {"sum": total}

    return over_names(rule, {"sum": initial_accumulator})


def adadelta(learning_rate: Rate, rho: float, epsilon: float, weight_decay: float) -> Transform:
    """Zeiler, "ADADELTA" (2012)."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = _decayed(g, w, weight_decay)
        square = _average(rho, slots["square"], g * g)
        d = np.sqrt(slots["delta"] + epsilon) / np.sqrt(square + epsilon) * g
        return -_at(learning_rate, step) * d, {
            "square": square,
            "delta": _average(rho, slots["delta"], d * d),
        }

    return over_names(rule, {"square": 0.0, "delta": 0.0})


def rmsprop(
    learning_rate: Rate, decay: float, epsilon: float, centered: bool, momentum: float, weight_decay: float
) -> Transform:
    """Tieleman, Hinton, lecture 6.5 (2012); the rate is applied after the momentum, as in torch."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = _decayed(g, w, weight_decay)
        new = {"square": _average(decay, slots["square"], g * g)}
        variance = new["square"]
        if centered:
            new["mean"] = _average(decay, slots["mean"], g)
            variance = variance - new["mean"] * new["mean"]
        d = g / (np.sqrt(variance) + epsilon)
        if momentum:
            d = new["momentum"] = momentum * slots["momentum"] + d
        return -_at(learning_rate, step) * d, new

    kept = {"square": True, "mean": centered, "momentum": bool(momentum)}
    return over_names(rule, {slot: 0.0 for slot, used in kept.items() if used})


def adam(
    learning_rate: Rate,
    beta1: float,
    beta2: float,
    epsilon: float,
    amsgrad: bool,
    weight_decay: float,
    decoupled: bool = False,
) -> Transform:
    """Kingma, Ba, "Adam" (2015); AMSGrad by Reddi et al. (2018); decoupled decay by Loshchilov, Hutter (2019).

    The bias corrections are formed in double, whatever the dtype, as torch does: in float32, 1 − β₂ᵗ loses 12 bits.
    """

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = g if decoupled else _decayed(g, w, weight_decay)
        mean = _average(beta1, slots["mean"], g)
        square = _average(beta2, slots["square"], g * g)
        new = {"mean": mean, "square": square}
        if amsgrad:
            square = new["largest"] = np.maximum(slots["largest"], square)
        corrected = mean / (1 - beta1**step)
        d = corrected / (np.sqrt(square / (1 - beta2**step)) + epsilon)
        return -_at(learning_rate, step) * (_decayed(d, w, weight_decay) if decoupled else d), new

    return over_names(rule, {"mean": 0.0, "square": 0.0, **({"largest": 0.0} if amsgrad else {})})


def adamax(learning_rate: Rate, beta1: float, beta2: float, epsilon: float, weight_decay: float) -> Transform:
    """Adam with the infinity norm (Kingma, Ba, section 7.1)."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        g = _decayed(g, w, weight_decay)
        mean = _average(beta1, slots["mean"], g)
        largest = np.maximum(beta2 * slots["largest"], np.abs(g) + epsilon)
        return -_at(learning_rate, step) * (mean / (1 - beta1**step)) / largest, {
            "mean": mean,
            "largest": largest,
        }

    return over_names(rule, {"mean": 0.0, "largest": 0.0})


def lion(learning_rate: Rate, beta1: float, beta2: float, weight_decay: float) -> Transform:
    """Chen et al., "Symbolic discovery of optimization algorithms" (2023)."""

    def rule(g: Array, w: Array, slots: Slots, step: int) -> tuple[Array, Slots]:
        direction = np.sign(_average(beta1, slots["mean"], g))
        mean = _average(beta2, slots["mean"], g)
        return -_at(learning_rate, step) * _decayed(direction, w, weight_decay), {"mean": mean}

    return over_names(rule, {"mean": 0.0})


def _at(learning_rate: Rate, step: int) -> float:
    """The learning rate of a step counted from 1."""
    return learning_rate(step - 1) if callable(learning_rate) else learning_rate


def _decayed(g: Array, w: Array, weight_decay: float) -> Array:
    """G + λ w."""
    return g + weight_decay * w if weight_decay else g


def _average(beta: float, old: Array, new: Array) -> Array:
    """β old + (1 − β) new."""
    return beta * old + (1 - beta) * new


_MAKERS: Mapping[str, Callable[..., Transform]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": lambda **args: adam(**args, amsgrad=False, decoupled=True),
    "adamax": adamax,
    "lion": lion,
}


def _checked(name: str) -> Callable[[Args, Factor], Transform]:
    """The maker, given the schedule's factor, whose slots must be those that the registry declares."""

    def make(args: Args, factor: Factor) -> Transform:
        base = float(args["learning_rate"])
        known: dict[str, Any] = {**args, "learning_rate": lambda t: base * factor(t)}
        transform = _MAKERS[name](**known)
        slots = [key.partition("/")[0] for key in transform.init({"w": np.zeros(1)})]
        assert sorted(slots) == sorted(RULES[name].state(args)), f"{name}: {slots}"
        return transform

    return make


OPTIMIZERS: Mapping[str, Callable[[Args, Factor], Transform]] = {name: _checked(name) for name in _MAKERS}
