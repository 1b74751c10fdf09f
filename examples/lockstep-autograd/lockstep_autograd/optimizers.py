"""Optimizers, each as the formula of one parameter's update; NumPy only, nothing is differentiated here.

A rule takes (arguments, gradient g, what is kept for the parameter, number t = 1, 2, ... of the update, learning rate η) and
gives what is added to the parameter, and what is kept for the next update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lockstep.backends.ops import Args
from lockstep.backends.problem import Array, Arrays, Optimizer

Kept = dict[str, Array]
Rule = Callable[[Args, Array, Kept, int, float], tuple[Array, Kept]]


def _sgd(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    if not a["momentum"]:
        return -rate * g, {}
    damped = t > 1 or a["first_damped"]
    b = a["momentum"] * kept["momentum"] + (1 - a["dampening"] if damped else 1.0) * g
    return -rate * (g + a["momentum"] * b if a["nesterov"] else b), {"momentum": b}


def _over_root(a: Args, g: Array, square: Array) -> Array:
    """The gradient over the root of what its square was, with ε inside or outside of it."""
    epsilon = a["epsilon"]
    return g / np.sqrt(square + epsilon) if a["epsilon_inside"] else g / (np.sqrt(square) + epsilon)


def _adagrad(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    total = kept["sum"] + g * g
    return -rate * _over_root(a, g, total), {"sum": total}


def _adadelta(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    square = _blend(a["rho"], kept["square"], g * g)
    d = g * np.sqrt(kept["delta"] + a["epsilon"]) / np.sqrt(square + a["epsilon"])
    return -rate * d, {"square": square, "delta": _blend(a["rho"], kept["delta"], d * d)}


def _rmsprop(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    now = {"square": _blend(a["decay"], kept["square"], g * g)}
    spread = now["square"]
    if a["centered"]:
        now["mean"] = _blend(a["decay"], kept["mean"], g)
        spread = spread - now["mean"] * now["mean"]
    d = _over_root(a, g, spread)
    if not a["momentum"]:
        return -rate * d, now
    within, outside = (rate, 1.0) if a["rate_in_trace"] else (1.0, rate)
    sign = -1.0 if a["rate_in_trace"] else 1.0  # the trace then sums what is added
    now["momentum"] = a["momentum"] * kept["momentum"] + sign * within * d
    return -sign * outside * now["momentum"], now


def _adam(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    now = {"mean": _blend(a["beta1"], kept["mean"], g), "square": _blend(a["beta2"], kept["square"], g * g)}
    correction = 1 - a["beta2"] ** t
    square = now["square"] / correction
    if a.get("amsgrad"):
        corrected = a["amsgrad_corrected"]
        now["largest"] = np.maximum(kept["largest"], square if corrected else now["square"])
        square = now["largest"] if corrected else now["largest"] / correction
    mean = now["mean"] / (1 - a["beta1"] ** t)
    return -rate * mean / (np.sqrt(square + a["epsilon_root"]) + a["epsilon"]), now


def _adamax(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    mean = _blend(a["beta1"], kept["mean"], g)
    largest = np.maximum(a["beta2"] * kept["largest"], np.abs(g) + a["epsilon"])
    return -rate / (1 - a["beta1"] ** t) * mean / largest, {"mean": mean, "largest": largest}


def _lion(a: Args, g: Array, kept: Kept, t: int, rate: float) -> tuple[Array, Kept]:
    direction = np.sign(_blend(a["beta1"], kept["mean"], g))
    return -rate * direction, {"mean": _blend(a["beta2"], kept["mean"], g)}


def _blend(weight: float, old: Array, new: Array) -> Array:
    return weight * old + (1 - weight) * new


OPTIMIZERS: Mapping[str, Rule] = {
    "sgd": _sgd,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": _adam,
    "adamax": _adamax,
    "lion": _lion,
}


def updated(
    optimizer: Optimizer, parameters: Arrays, grads: Arrays, state: Arrays, t: int, rate: float
) -> tuple[Arrays, Arrays]:
    """The parameters after update t = 1, 2, ... at this learning rate, and the optimizer's state, both by name."""
    args, after, new = optimizer.args, {}, dict(state)
    decay, decoupled = args.get("weight_decay", 0.0), args.get("decoupled", True)
    for name, w in parameters.items():
        g = grads[name] if decoupled or not decay else grads[name] + decay * w
        kept = {slot: state[f"{slot}/{name}"] for slot in optimizer.state}
        change, now = OPTIMIZERS[optimizer.name](args, g, kept, t, rate)
        after[name] = w + change - rate * decay * w if decoupled and decay else w + change
        new |= {f"{slot}/{name}": value for slot, value in now.items()}
    return after, new
