"""What each optimizer does to one parameter: the formula that `lockstep.backends.ops.OPTIMIZERS` states, without its decay.

A rule is a pure function; the makers take the arguments that the formula has besides the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.numpy_vjp.special import at_least, at_most, eps, sqrt
from lockstep.backends.ops import Args
from lockstep.backends.problem import Array

Slots = Mapping[str, Array]
"""What is kept for one parameter, by the name that the registry gives it."""

Rule = Callable[[Array, Array, Slots, int, float], tuple[Array, dict[str, Array]]]
"""(gradient, parameter, slots, step t from 1, learning rate) -> (update to add, next slots)."""


def sgd(momentum: float, dampening: float, nesterov: bool, first_damped: bool) -> Rule:
    """Gradient descent: the update is −η g, or −η b with momentum."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        if not momentum:
            return -rate * g, {}
        undamped = t == 1 and not first_damped
        b = g if undamped else momentum * slots["momentum"] + (1 - dampening) * g
        return -rate * (g + momentum * b if nesterov else b), {"momentum": b}

    return rule


def adagrad(epsilon: float, epsilon_inside: bool) -> Rule:
    """Duchi, Hazan, Singer, "Adaptive subgradient methods" (2011); torch has ε outside the root, optax inside."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        total = slots["sum"] + g * g
        return -rate * g / _root(total, epsilon, epsilon_inside), {"sum": total}

    return rule


def adadelta(rho: float, epsilon: float) -> Rule:
    """Zeiler, "ADADELTA" (2012)."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        square = _average(rho, slots["square"], g * g)
        d = np.sqrt(slots["delta"] + epsilon) / np.sqrt(square + epsilon) * g
        return -rate * d, {"square": square, "delta": _average(rho, slots["delta"], d * d)}

    return rule


def rmsprop(
    decay: float, epsilon: float, epsilon_inside: bool, centered: bool, momentum: float, rate_in_trace: bool
) -> Rule:
    """Tieleman, Hinton, lecture 6.5 (2012); torch applies the rate after the momentum, optax' alias before."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        new = {"square": _average(decay, slots["square"], g * g)}
        variance = new["square"]
        if centered:
            new["mean"] = _average(decay, slots["mean"], g)
            variance = variance - new["mean"] * new["mean"]
        d = g / _root(variance, epsilon, epsilon_inside)
        if not momentum:
            return -rate * d, new
        b = new["momentum"] = momentum * slots["momentum"] + (-rate * d if rate_in_trace else d)
        return b if rate_in_trace else -rate * b, new

    return rule


def adam(
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_root: float = 0.0,
    amsgrad: bool = False,
    amsgrad_corrected: bool = False,
) -> Rule:
    """Kingma, Ba, "Adam" (2015); AMSGrad by Reddi et al. (2018).

    The bias corrections are formed in double, whatever the dtype, as torch does: in float32, 1 − β₂ᵗ loses 12 bits.
    """

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        new = _moments(beta1, beta2, g, slots)
        square, unbias = new["square"], 1 - beta2**t
        if amsgrad:
            # torch corrects the bias of the largest v, optax takes the largest of the corrected ones.
            bounded = square / unbias if amsgrad_corrected else square
            square = new["largest"] = np.maximum(slots["largest"], bounded)
        if not (amsgrad and amsgrad_corrected):
            square = square / unbias
        return -rate * (new["mean"] / (1 - beta1**t)) / (np.sqrt(square + epsilon_root) + epsilon), new

    return rule


def adamax(beta1: float, beta2: float, epsilon: float) -> Rule:
    """Adam with the infinity norm (Kingma, Ba, section 7.1)."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        mean = _average(beta1, slots["mean"], g)
        largest = np.maximum(beta2 * slots["largest"], np.abs(g) + epsilon)
        return -rate * (mean / (1 - beta1**t)) / largest, {"mean": mean, "largest": largest}

    return rule


def nadam(beta1: float, beta2: float, epsilon: float, momentum_decay: float, constant_momentum: bool) -> Rule:
    """Dozat, "Incorporating Nesterov momentum into Adam" (2016); his momentum grows towards β₁, optax' is constant."""
    products = [1.0]  # Π₀, Π₁, ...: a memo, no state; they depend on t alone

    def momentum(t: int) -> float:
        return beta1 if constant_momentum else beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def product(t: int) -> float:
        while len(products) <= t:
            products.append(products[-1] * momentum(len(products)))
        return products[t]

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        new = _moments(beta1, beta2, g, slots)
        now = (1 - momentum(t)) / (1 - product(t))
        ahead = momentum(t + 1) / (1 - product(t + 1))
        root = np.sqrt(new["square"] / (1 - beta2**t)) + epsilon
        return -rate * (now * g + ahead * new["mean"]) / root, new

    return rule


def radam(beta1: float, beta2: float, epsilon: float, epsilon_corrected: bool, threshold: float) -> Rule:
    """Liu et al., "On the variance of the adaptive learning rate" (2020); torch adds ε to √v, optax to √v̂."""
    longest = 2 / (1 - beta2) - 1

    def rectified(square: Array, t: int) -> Array | float:
        unbias = 1 - beta2**t
        length = longest - 2 * t * beta2**t / unbias
        if length <= threshold:
            return 1.0
        trust = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        if epsilon_corrected:
            return sqrt(trust) / (np.sqrt(square / unbias) + epsilon)
        return sqrt(trust * unbias) / (np.sqrt(square) + epsilon)

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        new = _moments(beta1, beta2, g, slots)
        return -rate * (new["mean"] / (1 - beta1**t)) * rectified(new["square"], t), new

    return rule


def rprop(shrink: float, grow: float, smallest: float, largest: float, stale: bool) -> Rule:
    """Riedmiller, Braun (1993), without weight backtracking: the first step size is the slot's initial value."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        turn = g * slots["previous"]
        factor = np.where(turn > 0, grow, np.where(turn < 0, shrink, 1.0)).astype(g.dtype)
        size = np.clip(slots["size"] * factor, smallest, largest)
        used = np.where(turn < 0, 0, g)
        if not stale:
            return -size * np.sign(used), {"previous": used, "size": size}
        # optax makes this step's update now and hands out the last one's.
        update = np.where(turn < 0, 0, -slots["previous"])
        return update, {"previous": size * np.sign(used), "size": size}

    return rule


def adafactor(
    decay: float,
    epsilon: float,
    epsilon_added: bool,
    epsilon_scale: float,
    clip: float,
    relative_step: bool,
) -> Rule:
    """Shazeer, Stern, "Adafactor" (2018), without momentum; a matrix is factored if it has the slots for it."""
    over = {"row": -1, "column": 0}

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        least = epsilon or eps(g)
        square = g * g + least if epsilon_added else g * g
        newest = {
            slot: square.mean(axis=over[slot], keepdims=True) if slot in over else square for slot in slots
        }
        new = {slot: _average(1 - t**-decay, slots[slot], value) for slot, value in newest.items()}
        estimate = _estimate(new, 0.0 if epsilon_added else least)
        u = g / np.sqrt(estimate)
        u = u / at_least(1.0, _rms(u) / clip)
        step = at_most(rate, 1 / sqrt(0 * rate + t)) if relative_step else rate
        return -step * at_least(epsilon_scale, _rms(w)) * u, new

    return rule


def lion(beta1: float, beta2: float) -> Rule:
    """Chen et al., "Symbolic discovery of optimization algorithms" (2023)."""

    def rule(g: Array, w: Array, slots: Slots, t: int, rate: float) -> tuple[Array, dict[str, Array]]:
        direction = np.sign(_average(beta1, slots["mean"], g))
        return -rate * direction, {"mean": _average(beta2, slots["mean"], g)}

    return rule


def _estimate(slots: Slots, least: float) -> Array:
    """V of Adafactor, at least ε²: the slot itself, or the outer product of the rows' and columns' means."""
    if "square" in slots:
        return np.maximum(slots["square"], least * least)
    outer = slots["row"] * slots["column"] / np.maximum(slots["row"].mean(), least)
    return np.maximum(outer, least * least)


def _rms(values: Array) -> float:
    """The root of the mean square, in double."""
    return sqrt(np.mean(values * values))


def _root(square: Array, epsilon: float, inside: bool) -> Array:
    """√(s + ε) or √s + ε."""
    return np.sqrt(square + epsilon) if inside else np.sqrt(square) + epsilon


def _moments(beta1: float, beta2: float, g: Array, slots: Slots) -> dict[str, Array]:
    """The averages of the gradient and of its square."""
    return {
        "mean": _average(beta1, slots["mean"], g),
        "square": _average(beta2, slots["square"], g * g),
    }


def _average(beta: float, old: Array, new: Array) -> Array:
    """β old + (1 − β) new."""
    return beta * old + (1 - beta) * new


ELSEWHERE = {"learning_rate", "weight_decay", "decoupled", "initial_accumulator", "factored_from"}
"""Arguments that no rule takes: the rate and the decay are applied around it, the others make its slots."""

_MAKERS: Mapping[str, Callable[..., Rule]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "rprop": rprop,
    "adafactor": adafactor,
    "lion": lion,
}


def _maker(name: str) -> Callable[[Args], Rule]:
    return lambda args: _MAKERS[name](**{key: args[key] for key in args if key not in ELSEWHERE})


RULES: Mapping[str, Callable[[Args], Rule]] = {name: _maker(name) for name in _MAKERS}
