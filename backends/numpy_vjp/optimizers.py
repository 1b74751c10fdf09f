"""Optimizers as pure (init, update) pairs: a rule for one parameter, its decay around it, lifted to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lockstep.backends.numpy_vjp.rules import RULES, Rule, Slots
from lockstep.backends.numpy_vjp.schedules import Factor
from lockstep.backends.numpy_vjp.special import complement
from lockstep.backends.ops import OPTIMIZERS as REGISTRY
from lockstep.backends.ops import Args, Slot
from lockstep.backends.problem import Array, Arrays, Optimizer, initial_slots

Updates = dict[str, Array]
OptimizerState = dict[str, Array]


class Transform(NamedTuple):
    """A pure optimizer over named arrays.

    Attributes:
        init: parameters -> state before the first step, ``<slot>/<parameter>``.
        update: (gradients, state, parameters, step from 1) -> (updates to add, next state).
    """

    init: Callable[[Arrays], OptimizerState]
    update: Callable[[Arrays, OptimizerState, Arrays, int], tuple[Updates, OptimizerState]]


def over_names(rule: Rule, slots: Mapping[str, Slot], rate: Factor) -> Transform:
    """The rule applied to every parameter that has a gradient; `rate` is that of update t = 0, 1, 2, ..."""

    def update(
        grads: Arrays, state: OptimizerState, params: Arrays, step: int
    ) -> tuple[Updates, OptimizerState]:
        now = rate(step - 1)
        if not slots:
            return {
                name: rule(grad, params[name], state, step, now)[0] for name, grad in grads.items()
            }, state
        updates, new = {}, dict(state)
        for name, grad in grads.items():
            before = {slot: state[f"{slot}/{name}"] for slot in slots if f"{slot}/{name}" in state}
            updates[name], after = rule(grad, params[name], before, step, now)
            assert after.keys() == before.keys(), (
                f"the registry declares {list(before)}, its rule has {list(after)}"
            )
            new.update({f"{slot}/{name}": value for slot, value in after.items()})
        return updates, new

    return Transform(lambda params: initial_slots(slots, params), update)


def decayed(rule: Rule, weight_decay: float, decoupled: bool) -> Rule:
    """The rule with λ w added to its gradient, or, decoupled from it, −η λ w to its update (Loshchilov, Hutter, 2019)."""
    if not weight_decay:
        return rule

    def coupled(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        return rule(g + weight_decay * w, w, slots, t, rate)

    def decoupled_rule(
        g: Array, w: Array, slots: Slots, t: int, rate: float
    ) -> tuple[Array, dict[str, Array]]:
        update, new = rule(g, w, slots, t, rate)
        # torch multiplies w by 1 − η λ, optax adds −η λ w; to twins that makes a difference.
        return update - complement(rate * weight_decay) * w, new

    return decoupled_rule if decoupled else coupled


def update_params(updates: Arrays, params: Arrays) -> dict[str, Array]:
    """New parameters: each plus its update; a parameter without an update stays as it is."""
    return {name: value + updates[name] if name in updates else value for name, value in params.items()}


def _maker(name: str) -> Callable[[Args, Factor], Transform]:
    """(arguments, the schedule's factor) -> transform."""

    def make(args: Args, factor: Factor) -> Transform:
        base = args["learning_rate"]
        # What has no choice is decoupled always.
        rule = decayed(RULES[name](args), args.get("weight_decay", 0.0), args.get("decoupled", True))
        return over_names(rule, REGISTRY[name].state(args), lambda t: base * factor(t))

    return make


OPTIMIZERS: Mapping[str, Callable[[Args, Factor], Transform]] = {name: _maker(name) for name in RULES}


def sgd(learning_rate: float, **args: Any) -> Transform:
    """Gradient descent at a constant rate, with the arguments that the registry states."""
    optimizer = Optimizer("sgd", learning_rate=learning_rate, **args)
    return OPTIMIZERS["sgd"](optimizer.args, lambda t: 1.0)
