"""The optimizers: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lockstep.backends.rules import Args, Argument, OptimizerRule, Slot
from lockstep.backends.shapes import Shape

_RATE = Argument(float, "η", above=0.0)
_DECAY = {
    "weight_decay": Argument(float, "λ", 0.0, at_least=0.0),
    "decoupled": Argument(bool, "−η λ w added to the update, not λ w to the gradient", False),
}
_ALWAYS_DECOUPLED = "λ, decoupled: −η λ w is added to the update"


def _decoupled(default: float) -> dict[str, Argument]:
    return {"weight_decay": Argument(float, _ALWAYS_DECOUPLED, default, at_least=0.0)}


def _epsilon(default: float, where: str) -> Argument:
    return Argument(float, f"ε, {where}", default, above=0.0)


def _fraction(symbol: str, default: float) -> Argument:
    return Argument(float, symbol, default, at_least=0.0, below=1.0)


_INSIDE = Argument(bool, "ε inside the root: √(s + ε)", False)
_MOMENTS = {
    "beta1": _fraction("β₁", 0.9),
    "beta2": _fraction("β₂", 0.999),
    "epsilon": _epsilon(1e-8, "outside the root"),
}
_EPSILON_ROOT = {"epsilon_root": Argument(float, "ε added inside the root: √(v̂ + ε)", 0.0, at_least=0.0)}


def _slots(**named: object) -> dict[str, Slot]:
    """Zeros of the parameter's shape, under the names whose condition holds."""
    return {name: Slot() for name, condition in named.items() if condition}


def _refuse_nesterov(args: Args) -> str | None:
    if args["nesterov"] and (not args["momentum"] or args["dampening"]):
        return "nesterov needs a momentum above 0 and no dampening"
    return None


def _refuse_step_sizes(args: Args) -> str | None:
    if not args["smallest"] <= args["learning_rate"] <= args["largest"]:
        return "the learning rate, with which the step sizes begin, must lie between smallest and largest"
    return None


def _refuse_nothing_added(args: Args) -> str | None:
    return "epsilon_added needs an epsilon above 0" if args["epsilon_added"] and not args["epsilon"] else None


def _is_factored(shape: Shape, args: Args) -> bool:
    return len(shape) == 2 and min(shape) >= args["factored_from"]


def _factors(args: Args) -> dict[str, Slot]:
    """Means of the squares over the last axis and over the first; of what is not factored, the squares."""

    def factored(shape: Shape, slot: Shape) -> Shape | None:
        return slot if _is_factored(shape, args) else None

    return {
        "row": Slot(shape=lambda shape: factored(shape, (*shape[:-1], 1))),
        "column": Slot(shape=lambda shape: factored(shape, (1, *shape[1:]))),
        "square": Slot(shape=lambda shape: None if _is_factored(shape, args) else shape),
    }


def _refuse_many_axes(shape: Shape, args: Args) -> str | None:
    # torch factors the last two axes of its layout, optax the two longest: of a matrix, the same two.
    return (
        None
        if len(shape) <= 2
        else "its frameworks factor tensors over different axes; use another optimizer"
    )


OPTIMIZERS: Mapping[str, OptimizerRule] = MappingProxyType(
    {
        # torch's first buffer is the gradient itself, undamped; optax' ema damps it too.
        "sgd": OptimizerRule(
            "b ← μ b + (1 − τ) g, at the first step b ← g; w ← w − η b, with Nesterov w ← w − η (g + μ b)",
            {
                "learning_rate": _RATE,
                "momentum": _fraction("μ", 0.0),
                "dampening": _fraction("τ", 0.0),
                "first_damped": Argument(bool, "b ← (1 − τ) g at the first step, too", False),
                "nesterov": Argument(bool, "look ahead", False),
                **_DECAY,
            },
            state=lambda args: _slots(momentum=args["momentum"]),
            refuses=_refuse_nesterov,
            presets={"torch": {"learning_rate": 1e-3}, "optax": {}},
            conventions="dampening: torch leaves the first buffer undamped, optax.ema damps it (first_damped)",
        ),
        "adagrad": OptimizerRule(
            "s ← s + g²; w ← w − η g / (√s + ε)",
            {
                "learning_rate": _RATE,
                "initial_accumulator": Argument(float, "s before the first step", 0.0, at_least=0.0),
                "epsilon": _epsilon(1e-10, "outside the root"),
                "epsilon_inside": _INSIDE,
                **_DECAY,
            },
            state=lambda args: {"sum": Slot(args["initial_accumulator"])},
            presets={
                "torch": {"learning_rate": 1e-2},
                "optax": {"initial_accumulator": 0.1, "epsilon": 1e-7, "epsilon_inside": True},
            },
        ),
        "adadelta": OptimizerRule(
            "s ← ρ s + (1 − ρ) g²; d = g √(a + ε) / √(s + ε); a ← ρ a + (1 − ρ) d²; w ← w − η d",
            {
                "learning_rate": _RATE,
                "rho": _fraction("ρ", 0.9),
                "epsilon": _epsilon(1e-6, "inside both roots"),
                **_DECAY,
            },
            state=lambda args: _slots(square=True, delta=True),
            presets={"torch": {"learning_rate": 1.0}, "optax": {}},
            conventions="optax.adadelta without a learning rate adds d instead of subtracting it",
        ),
        "rmsprop": OptimizerRule(
            "s ← α s + (1 − α) g²; d = g / (√s + ε), centered g / (√(s − m²) + ε) with m the average of g; "
            "b ← μ b + d, w ← w − η b; with the rate in the trace b ← μ b − η d, w ← w + b",
            {
                "learning_rate": _RATE,
                "decay": _fraction("α", 0.99),
                "epsilon": _epsilon(1e-8, "outside the root"),
                "epsilon_inside": _INSIDE,
                "centered": Argument(bool, "subtract the squared average", False),
                "momentum": _fraction("μ", 0.0),
                "rate_in_trace": Argument(bool, "b sums −η d: a new rate does not rescale old steps", False),
                **_DECAY,
            },
            state=lambda args: _slots(square=True, mean=args["centered"], momentum=args["momentum"]),
            presets={
                "torch": {"learning_rate": 1e-2},
                "optax": {"decay": 0.9, "epsilon_inside": True, "rate_in_trace": True},
            },
            conventions="rate_in_trace shows only with momentum and a schedule",
        ),
        "adam": OptimizerRule(
            "m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), "
            "v̂ = v / (1 − β₂ᵗ); AMSGrad takes the largest v so far",
            {
                "learning_rate": _RATE,
                **_MOMENTS,
                **_EPSILON_ROOT,
                "amsgrad": Argument(bool, "take the largest v", False),
                "amsgrad_corrected": Argument(bool, "AMSGrad takes the largest v̂ instead", False),
                **_DECAY,
            },
            state=lambda args: _slots(mean=True, square=True, largest=args["amsgrad"]),
            presets={"torch": {"learning_rate": 1e-3}, "optax": {"amsgrad_corrected": True}},
            conventions="amsgrad_corrected shows only with amsgrad; without x64 optax forms 1 − βᵗ in float32",
        ),
        "adamw": OptimizerRule(
            "Adam's update and, decoupled from it, w ← w − η λ w",
            {"learning_rate": _RATE, **_MOMENTS, **_EPSILON_ROOT, **_decoupled(1e-2)},
            state=lambda args: _slots(mean=True, square=True),
            presets={"torch": {"learning_rate": 1e-3}, "optax": {"weight_decay": 1e-4}},
        ),
        "adamax": OptimizerRule(
            "m as Adam's; v ← max(β₂ v, |g| + ε); w ← w − η m / ((1 − β₁ᵗ) v)",
            {
                "learning_rate": _RATE,
                **_MOMENTS,
                "epsilon": _epsilon(1e-8, "added to |g|"),
                **_DECAY,
            },
            state=lambda args: _slots(mean=True, largest=True),
            presets={"torch": {"learning_rate": 2e-3}, "optax": {}},
        ),
        "nadam": OptimizerRule(
            "m, v as Adam's; μₜ = β₁(1 − 0.96^(ψ t)/2), Πₜ = μ₁ ⋯ μₜ; "
            "w ← w − η ((1 − μₜ) g / (1 − Πₜ) + μₜ₊₁ m / (1 − Πₜ₊₁)) / (√v̂ + ε)",
            {
                "learning_rate": _RATE,
                **_MOMENTS,
                "momentum_decay": Argument(float, "ψ", 4e-3, at_least=0.0),
                "constant_momentum": Argument(bool, "μₜ = β₁ at every step", False),
                **_DECAY,
            },
            state=lambda args: _slots(mean=True, square=True),
            presets={"torch": {"learning_rate": 2e-3}, "optax": {"constant_momentum": True}},
            conventions="torch keeps Πₜ in float32 unless the default dtype is float64",
        ),
        "radam": OptimizerRule(
            "m, v as Adam's; ρₜ = ρ − 2t β₂ᵗ/(1 − β₂ᵗ) with ρ = 2/(1 − β₂) − 1; while ρₜ ≤ threshold w ← w − η m̂, "
            "then w ← w − η m̂ r √(1 − β₂ᵗ) / (√v + ε) with r² = (ρₜ − 4)(ρₜ − 2)ρ / ((ρ − 4)(ρ − 2)ρₜ)",
            {
                "learning_rate": _RATE,
                **_MOMENTS,
                "epsilon": _epsilon(1e-8, "added to √v"),
                "epsilon_corrected": Argument(bool, "ε added to √v̂ instead", False),
                "threshold": Argument(float, "from which ρₜ on the variance is trusted", 5.0, at_least=4.0),
                **_DECAY,
            },
            state=lambda args: _slots(mean=True, square=True),
            presets={"torch": {"learning_rate": 1e-3}, "optax": {"epsilon_corrected": True}},
            conventions="at ρₜ = threshold itself optax already rectifies",
        ),
        "rprop": OptimizerRule(
            "each element's step size s, first η, is multiplied with η⁺ where g kept its sign and with η⁻ where it "
            "changed; w ← w − s sign(g), but not where it changed; η is read once: no schedule changes it",
            {
                "learning_rate": Argument(float, "η, the first step size", above=0.0),
                "shrink": Argument(float, "η⁻", 0.5, above=0.0, below=1.0),
                "grow": Argument(float, "η⁺", 1.2, above=1.0),
                "smallest": Argument(float, "least step size", 1e-6, above=0.0),
                "largest": Argument(float, "largest step size", 50.0, above=0.0),
                "stale": Argument(
                    bool, "each update is that of the step before, where g kept its sign", False
                ),
            },
            state=lambda args: {"previous": Slot(), "size": Slot(args["learning_rate"])},
            refuses=_refuse_step_sizes,
            presets={"torch": {"learning_rate": 1e-2}, "optax": {"stale": True}},
            conventions="after a warm-up's rate of 0 torch would start from the least step size; optax takes no schedule",
        ),
        "adafactor": OptimizerRule(
            "v ← (1 − t^−c) v + t^−c g², of a matrix the outer product of its rows' and columns' means over the "
            "mean of all; u = g / √v, u ← u / max(1, rms(u)/d); w ← w − η max(ε₂, rms(w)) u",
            {
                "learning_rate": _RATE,
                "decay": Argument(float, "c", 0.8, above=0.0),
                "epsilon": Argument(float, "ε: √v is at least ε; 0 for the dtype's own", 0.0, at_least=0.0),
                "epsilon_added": Argument(bool, "ε added to g² instead", False),
                "epsilon_scale": _epsilon(1e-3, "ε₂: least scale of an update"),
                "clip": Argument(float, "d", 1.0, at_least=1.0),
                "relative_step": Argument(bool, "at most 1/√t in the place of η", True),
                "factored_from": Argument(int, "shorter side from which a matrix is factored", 1, at_least=1),
                **_decoupled(0.0),
            },
            state=_factors,
            refuses=_refuse_nothing_added,
            refuses_parameter=_refuse_many_axes,
            presets={
                "torch": {"learning_rate": 1e-2},
                "optax": {
                    "learning_rate": 1.0,
                    "epsilon": 1e-30,
                    "epsilon_added": True,
                    "relative_step": False,
                    "factored_from": 128,
                },
            },
            conventions="optax.adafactor forms t^−c in float32, even under x64, and does not scale its decay by η",
        ),
        "lion": OptimizerRule(
            "w ← w − η (sign(β₁ m + (1 − β₁) g) + λ w); m ← β₂ m + (1 − β₂) g",
            {
                "learning_rate": _RATE,
                "beta1": _fraction("β₁", 0.9),
                "beta2": _fraction("β₂", 0.99),
                **_decoupled(0.0),
            },
            state=lambda args: _slots(mean=True),
            presets={"optax": {"weight_decay": 1e-3}},
            conventions="torch.optim has no Lion",
        ),
    }
)
