"""The functions, losses and optimizers as data: what they are called, what they take, what shapes they make.

Every backend implements the same members; here stands, once, what is true of a member whichever framework
computes it: its arguments with their ranges, its parameters' shapes, its conventions. A `Problem` is checked
against these tables, the JSON Schema of the problem file is made from them, and the tests are parametrised
over them.

The functions stand in `lockstep.backends.functions`, the optimizers in `lockstep.backends.optimizers`, all smaller tables here;
`lockstep.backends.rules` says what a row is. Import all of them from this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from lockstep.backends.functions import FUNCTIONS
from lockstep.backends.optimizers import OPTIMIZERS
from lockstep.backends.rules import (
    Args,
    Argument,
    AverageRule,
    Buffer,
    ClipRule,
    LossRule,
    Op,
    OptimizerRule,
    PenaltyRule,
    Rule,
    Scalar,
    ScheduleRule,
    Slot,
    Value,
    checked_args,
    checked_name,
    preset_args,
)

__all__ = [
    "AVERAGES",
    "CLIPS",
    "FUNCTIONS",
    "LOSSES",
    "OPTIMIZERS",
    "PENALTIES",
    "SCHEDULES",
    "Args",
    "Argument",
    "AverageRule",
    "Buffer",
    "ClipRule",
    "LossRule",
    "Op",
    "OptimizerRule",
    "PenaltyRule",
    "Rule",
    "Scalar",
    "ScheduleRule",
    "Slot",
    "Value",
    "checked_args",
    "checked_name",
    "preset_args",
]

_REDUCTION = Argument(str, "over all elements of the batch", "mean", choices=("sum", "mean"))

LOSSES: Mapping[str, LossRule] = MappingProxyType(
    {
        "squared_error": LossRule(
            "e² with e = prediction − target, summed or averaged over all elements",
            {"reduction": _REDUCTION},
            conventions="torch's MSELoss and optax.squared_error are e²; optax.l2_loss is half_squared_error",
        ),
        "half_squared_error": LossRule("e²/2: optax' l2_loss", {"reduction": _REDUCTION}),
        "absolute_error": LossRule(
            "|e|; the derivative at 0 is 0",
            {"reduction": _REDUCTION},
            conventions="at an exact fit jnp.abs has derivative 1, torch's L1Loss 0",
        ),
        "huber": LossRule(
            "e²/2 where |e| ≤ δ, else δ(|e| − δ/2)",
            {"delta": Argument(float, "δ", 1.0, above=0.0), "reduction": _REDUCTION},
        ),
        "smooth_l1": LossRule(
            "e²/(2β) where |e| ≤ β, else |e| − β/2",
            {"beta": Argument(float, "β", 1.0, above=0.0), "reduction": _REDUCTION},
            conventions="torch's SmoothL1Loss is its HuberLoss, and optax.huber_loss, divided by β",
        ),
        "log_cosh": LossRule("log cosh e, at any e", {"reduction": _REDUCTION}),
        "quantile": LossRule(
            "max(q r, (q − 1) r) with r = target − prediction; the derivative at 0 is the mean of both sides",
            {"q": Argument(float, "the quantile", 0.5, above=0.0, below=1.0), "reduction": _REDUCTION},
        ),
        "poisson": LossRule(
            "eᵖ − y p: the negative log likelihood of counts y whose log rate is p, without its log(y!) term",
            {"reduction": _REDUCTION},
            conventions="torch's PoissonNLLLoss of the rate itself (log_input=False) adds 1e-8 to it",
        ),
        "logistic": LossRule(
            "log(1 + eᵖ) − y p: cross-entropy of y in [0, 1] with logit p, at any p",
            {"reduction": _REDUCTION},
            conventions="of probabilities torch's BCELoss clamps the logarithm at −100, jnp.log(0) is infinite",
        ),
        "softmax_cross_entropy": LossRule(
            "−Σ y log softmax(p) over the last axis, y a distribution; the mean is over examples",
            {"reduction": _REDUCTION},
        ),
        # torch's GaussianNLLLoss of v = eˢ; its derivative passes through the clamp as if v were not clamped.
        "gaussian": LossRule(
            "(log v + (y − m)²/v)/2 with v = max(eˢ, ε), at any s, for a prediction of means m, then log "
            "variances s, along the last axis; the derivative in v is 1/(2v) − (y − m)²/(2v²) below ε too; the "
            "mean is over the elements of y",
            {
                "epsilon": Argument(float, "ε, the smallest variance", 1e-6, above=0.0),
                "reduction": _REDUCTION,
            },
            prediction=lambda target: (*target[:-1], 2 * target[-1]),
        ),
    }
)

_STEPS = Argument(int, "T, counted in updates", at_least=1)
_FACTOR = Argument(float, "γ", above=0.0)
_FINAL = Argument(float, "f, the fraction of η that is left at the end", 0.0, at_least=0.0)


def _refuse_warmup(args: Args) -> str | None:
    return None if args["warmup"] < args["steps"] else "the warm-up must be shorter than steps"


def _refuse_boundaries(args: Args) -> str | None:
    boundaries, factors = args["boundaries"], args["factors"]
    if any(later <= earlier for earlier, later in itertools.pairwise(boundaries)):
        return "the boundaries must increase"
    return None if len(boundaries) == len(factors) else "give as many factors as boundaries"


SCHEDULES: Mapping[str, ScheduleRule] = MappingProxyType(
    {
        "constant": ScheduleRule("1"),
        "step": ScheduleRule("γ^⌊t/T⌋", {"steps": _STEPS, "factor": _FACTOR}),
        # torch's MultiStepLR has one factor for all its boundaries.
        "piecewise": ScheduleRule(
            "Π γᵢ over the boundaries Tᵢ ≤ t",
            {
                "boundaries": Argument(int, "Tᵢ, increasing, counted in updates", at_least=1, many=True),
                "factors": Argument(float, "γᵢ, one for each boundary", above=0.0, many=True),
            },
            refuses=_refuse_boundaries,
        ),
        "exponential": ScheduleRule("γᵗ", {"factor": _FACTOR}),
        "polynomial": ScheduleRule(
            "(1 − min(t, T)/T)ᵖ", {"steps": _STEPS, "power": Argument(float, "p", 1.0, above=0.0)}
        ),
        "cosine": ScheduleRule(
            "f + (1 − f)(1 + cos(π min(t, T)/T))/2",
            {"steps": _STEPS, "final": _FINAL},
            conventions="torch's CosineAnnealingLR rises again after T, optax' stays, as here; torch's end is a rate",
        ),
        "warmup_cosine": ScheduleRule(
            "t/W up to W, then f + (1 − f)(1 + cos(π (min(t, T) − W)/(T − W)))/2",
            {"warmup": Argument(int, "W, counted in updates", at_least=1), "steps": _STEPS, "final": _FINAL},
            refuses=_refuse_warmup,
            conventions="optax' decay_steps count the warm-up in, as T does here; torch chains two schedules",
        ),
    }
)

_LIMIT = Argument(float, "L", above=0.0)

CLIPS: Mapping[str, ClipRule] = MappingProxyType(
    {
        "none": ClipRule("g"),
        "norm": ClipRule(
            "g min(1, L / (‖g‖ + ε)), with ‖g‖ over all parameters together",
            {
                "limit": _LIMIT,
                "epsilon": Argument(float, "ε: 1e-6 is torch's, 0 is optax'", 1e-6, at_least=0.0),
            },
            presets={"torch": {"epsilon": 1e-6}, "optax": {"epsilon": 0.0}},
            conventions="neither clip_grad_norm_ nor clip_by_global_norm can change its ε",
        ),
        "value": ClipRule("each element to [−L, L]", {"limit": _LIMIT}),
    }
)

_PENALTY: Mapping[str, Argument] = {
    "weight": Argument(float, "λ", at_least=0.0),
    "parameters": Argument(
        str, "whose: those of two or more axes, or all", "weights", choices=("weights", "all")
    ),
}

PENALTIES: Mapping[str, PenaltyRule] = MappingProxyType(
    {
        "l1": PenaltyRule("λ Σ |w|; the derivative at 0 is 0", _PENALTY),  # jnp.abs takes +1 there
        # Under plain gradient descent this is coupled weight decay λ, and unlike it part of the loss.
        "l2": PenaltyRule("(λ/2) Σ w², whose derivative is λ w", _PENALTY),
    }
)

AVERAGES: Mapping[str, AverageRule] = MappingProxyType(
    {
        "none": AverageRule("nothing is kept"),
        "ema": AverageRule(
            "a ← d a + (1 − d) w after each update; at the first a ← w, or debiased a ← (1 − d) w and reported "
            "as a / (1 − dᵗ) after t updates",
            {
                "decay": Argument(float, "d", at_least=0.0, below=1.0),
                "debias": Argument(bool, "start from zero, as optax.ema, instead of from a copy", False),
            },
            conventions="training is the same; torch's AveragedModel starts from a copy, optax.ema from zero, debiased",
        ),
    }
)
