"""The optimizers as Optax transforms, and where Optax keeps their state.

An alias of Optax where it has the stated arguments; else a chain of Optax' parts; a transform of our own
(`lockstep.backends.jax_haiku.transforms`) only where no part does what is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lockstep.backends.jax_haiku import transforms
from lockstep.backends.jax_haiku.schedules import Rate
from lockstep.backends.ops import Args
from lockstep.backends.shapes import Shape


class Row(NamedTuple):
    """How one optimizer is written in Optax.

    Attributes:
        build: (arguments, learning rate or schedule) -> transform.
        state: the registry's name of what is kept -> the field of the Optax state that holds it.
        tall: the same for a parameter whose first axis is longer than its second, where it differs.
        scalars: field -> (arguments, step) -> its value after so many updates, of what depends on nothing else.
    """

    build: Callable[[Args, Rate], optax.GradientTransformation]
    state: Mapping[str, str] = {}
    tall: Mapping[str, str] = {}
    scalars: Mapping[str, Callable[[Args, int], jax.Array]] = {}

    def field(self, slot: str, shape: Shape) -> str:
        """Where the slot of a parameter of that shape is."""
        is_tall = len(shape) == 2 and shape[0] > shape[1]
        return self.tall.get(slot, self.state[slot]) if is_tall else self.state[slot]


def _decayed(
    build: Callable[[Args, Rate], optax.GradientTransformation],
) -> Callable[[Args, Rate], optax.GradientTransformation]:
    """With λ w added to the gradient before the transform, or, decoupled, −η λ w to the update after it."""

    def decayed(args: Args, rate: Rate) -> optax.GradientTransformation:
        transform, decay = build(args, rate), float(args["weight_decay"])
        if not decay:
            return transform
        if not args.get("decoupled", True):
            return optax.chain(optax.add_decayed_weights(decay), transform)
        return optax.chain(transform, optax.add_decayed_weights(_times(-decay, rate)))

    return decayed


def _times(factor: float, rate: Rate) -> Rate:
    return (lambda count: factor * rate(count)) if callable(rate) else factor * rate


def _sgd(args: Args, rate: Rate) -> optax.GradientTransformation:
    momentum = float(args["momentum"])
    plain = optax.sgd(rate, momentum or None, bool(args["nesterov"]))
    damping = float(args["dampening"])
    if not momentum or not damping:
        return plain
    if args["first_damped"]:
        return optax.chain(optax.scale(1 - damping), plain)
    # optax.ema would damp the first gradient too; torch's first buffer is undamped.
    damp = optax.scale_by_schedule(lambda count: jnp.where(count == 0, 1.0, 1.0 - damping))
    return optax.chain(damp, plain)


def _adagrad(args: Args, rate: Rate) -> optax.GradientTransformation:
    initial, epsilon = float(args["initial_accumulator"]), float(args["epsilon"])
    if args["epsilon_inside"]:
        return optax.adagrad(rate, initial, epsilon)
    return optax.chain(transforms.scale_by_root_of_sum(initial, epsilon), optax.scale_by_learning_rate(rate))


def _adadelta(args: Args, rate: Rate) -> optax.GradientTransformation:
    return optax.adadelta(rate, float(args["rho"]), float(args["epsilon"]))


def _rmsprop(args: Args, rate: Rate) -> optax.GradientTransformation:
    """optax.rmsprop, or its parts: the alias puts the rate inside the momentum's trace."""
    decay, epsilon, momentum = (float(args[name]) for name in ("decay", "epsilon", "momentum"))
    inside, centered = bool(args["epsilon_inside"]), bool(args["centered"])
    if args["rate_in_trace"] or not momentum:
        return optax.rmsprop(
            rate, decay, epsilon, eps_in_sqrt=inside, centered=centered, momentum=momentum or None
        )
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    scaled = scale(decay, epsilon, eps_in_sqrt=inside)
    return optax.chain(scaled, optax.trace(momentum), optax.scale_by_learning_rate(rate))


def _moments(args: Args) -> tuple[float, float, float]:
    return float(args["beta1"]), float(args["beta2"]), float(args["epsilon"])


def _adam(args: Args, rate: Rate) -> optax.GradientTransformation:
    moments = (*_moments(args), float(args["epsilon_root"]))
    if not args["amsgrad"]:
        return optax.adam(rate, *moments)
    if args["amsgrad_corrected"]:
        return optax.amsgrad(rate, *moments)
    return optax.chain(transforms.scale_by_largest(*moments), optax.scale_by_learning_rate(rate))


def _adamw(args: Args, rate: Rate) -> optax.GradientTransformation:
    decay = float(args["weight_decay"])
    return optax.adamw(rate, *_moments(args), float(args["epsilon_root"]), weight_decay=decay)


def _nadam(args: Args, rate: Rate) -> optax.GradientTransformation:
    if args["constant_momentum"]:
        return optax.nadam(rate, *_moments(args))
    scaled = transforms.scale_by_growing_momentum(*_moments(args), float(args["momentum_decay"]))
    return optax.chain(scaled, optax.scale_by_learning_rate(rate))


def _radam(args: Args, rate: Rate) -> optax.GradientTransformation:
    threshold = float(args["threshold"])
    if args["epsilon_corrected"]:
        return optax.radam(rate, *_moments(args), threshold=threshold)
    return optax.chain(transforms.rectify(*_moments(args), threshold), optax.scale_by_learning_rate(rate))


def _rprop(args: Args, rate: Rate) -> optax.GradientTransformation:
    """optax.rprop takes a number: the step sizes begin with it and no schedule changes them."""
    names = ("learning_rate", "shrink", "grow", "smallest", "largest")
    numbers = [float(args[name]) for name in names]
    return optax.rprop(*numbers) if args["stale"] else transforms.step_by_sign(*numbers)


def _adafactor(args: Args, rate: Rate) -> optax.GradientTransformation:
    """The chain that optax.adafactor makes, because the alias forms t^−c in float32 and scales no decay by the rate."""
    decay, epsilon, least = (float(args[name]) for name in ("decay", "epsilon", "factored_from"))
    if args["epsilon_added"]:
        scaled = optax.scale_by_factored_rms(
            decay_rate=decay,
            min_dim_size_to_factor=int(least),
            epsilon=epsilon,
            decay_rate_fn=transforms.power_decay,
        )
    else:
        scaled = transforms.scale_by_bounded_factors(int(least), decay, epsilon)
    return optax.chain(
        scaled,
        optax.clip_by_block_rms(float(args["clip"])),
        optax.scale_by_param_block_rms(float(args["epsilon_scale"])),
        optax.scale_by_learning_rate(_bounded(rate) if args["relative_step"] else rate),
    )


def _bounded(rate: Rate) -> Rate:
    """The rate, at most 1/√t."""

    def bounded(count: Any) -> Any:
        most = 1 / jnp.sqrt(jnp.asarray(count + 1, jnp.result_type(float)))
        return jnp.minimum(rate(count) if callable(rate) else rate, most)

    return bounded


def _lion(args: Args, rate: Rate) -> optax.GradientTransformation:
    beta1, beta2, decay = (float(args[name]) for name in ("beta1", "beta2", "weight_decay"))
    return optax.lion(rate, beta1, beta2, weight_decay=decay)


OPTIMIZERS: Mapping[str, Row] = {
    "sgd": Row(_decayed(_sgd), {"momentum": "trace"}),
    "adagrad": Row(_decayed(_adagrad), {"sum": "sum_of_squares"}),
    "adadelta": Row(_decayed(_adadelta), {"square": "e_g", "delta": "e_x"}),
    "rmsprop": Row(_decayed(_rmsprop), {"square": "nu", "mean": "mu", "momentum": "trace"}),
    "adam": Row(_decayed(_adam), {"mean": "mu", "square": "nu", "largest": "nu_max"}),
    "adamw": Row(_adamw, {"mean": "mu", "square": "nu"}),
    "adamax": Row(
        _decayed(lambda args, rate: optax.adamax(rate, *_moments(args))), {"mean": "mu", "largest": "nu"}
    ),
    "nadam": Row(
        _decayed(_nadam),
        {"mean": "mu", "square": "nu"},
        scalars={"momentum_product": transforms.momentum_product},
    ),
    "radam": Row(_decayed(_radam), {"mean": "mu", "square": "nu"}),
    "rprop": Row(_rprop, {"previous": "prev_updates", "size": "step_sizes"}),
    "adafactor": Row(
        _decayed(_adafactor),
        {"row": "v_row", "column": "v_col", "square": "v"},
        tall={"row": "v_col", "column": "v_row"},
    ),
    "lion": Row(_lion, {"mean": "mu"}),
}
