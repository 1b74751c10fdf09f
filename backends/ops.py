"""The functions, losses and optimizers as data: what they are called, what they take, what shapes they make.

Every backend implements the same members; here stands, once, what is true of a member whichever framework
computes it: its arguments with their ranges, its parameters' shapes, its conventions. A `Problem` is checked
against these tables, the JSON Schema of the problem file is made from them, and the tests are parametrised
over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol

from backends import shapes
from backends.errors import ProblemError, UnknownNameError, did_you_mean
from backends.shapes import Shape

Value = bool | int | float | str
Args = Mapping[str, Value]


@dataclass(frozen=True)
class Argument:
    """One argument of a member: its type, its default and the values it may take.

    Attributes:
        kind: the Python type; an int is accepted where a float is asked for.
        doc: what it means, in one line.
        default: None for an argument that must be given.
        above: exclusive lower bound.
        at_least: inclusive lower bound.
        below: exclusive upper bound.
        choices: the words that a str argument may be.
    """

    kind: type[bool] | type[int] | type[float] | type[str]
    doc: str
    default: Value | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, where: str, value: object) -> Value:
        """The value, converted to `kind`, or a ProblemError that names the field `where`."""
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.kind) or (self.kind is not bool and isinstance(value, bool)):
            raise ProblemError(
                f"{where} has the wrong type",
                f"{value!r} ({type(value).__name__})",
                f"give {self.describe()}",
            )
        if not self._in_range(value):
            raise ProblemError(f"{where} is out of range", repr(value), f"give {self.describe()}")
        return value

    def _in_range(self, value: Value) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
        )

    def describe(self) -> str:
        """The values it may take, as words: ``a float > 0``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">", self.above), (">=", self.at_least), ("<", self.below))
            if bound is not None
        ]
        article = "an" if self.kind is int else "a"
        return " ".join([article, self.kind.__name__, " and ".join(bounds)]).rstrip()


def _same_shape(shape: Shape, args: Args) -> Shape:
    return shape


def _no_parameters(shape: Shape, args: Args) -> dict[str, Shape]:
    return {}


def _any_shape(shape: Shape, args: Args) -> str | None:
    return None


class Buffer(NamedTuple):
    """A state that training moves without a gradient: its shape and its value before the first step."""

    shape: Shape
    start: float


def _no_buffers(shape: Shape, args: Args) -> dict[str, Buffer]:
    return {}


class Rule(Protocol):
    """What is said of every member of every table."""

    @property
    def doc(self) -> str:
        """The formula and the convention."""

    @property
    def arguments(self) -> Mapping[str, Argument]:
        """What may be said about it in a problem."""


@dataclass(frozen=True)
class Op:
    """A function of the model. Shapes are those of one example: without the leading batch axis.

    Attributes:
        doc: the formula and the convention.
        arguments: what may be said about it in a problem.
        parameters: (input shape, arguments) -> shape of each parameter, in the canonical layout.
        output: (input shape, arguments) -> output shape.
        refuses: (input shape, arguments) -> why this input cannot be taken, or None.
        ones: the parameters that are drawn as ones (scales), not zeros or normal.
        buffers: (input shape, arguments) -> what training moves without a gradient.
        over_batch: whether training takes statistics over the batch, which then needs two values a channel.
        keep: arguments -> probability that an element survives training; None for a function without a mask.
        ids: arguments -> number of ids; such a function takes whole numbers below it and stands first.
        join: (input shape, shapes of the branches' outputs) -> output shape, or None where they do not go
            together; given for functions of branches, which are chains of layers over the same input.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    parameters: Callable[[Shape, Args], dict[str, Shape]] = _no_parameters
    output: Callable[[Shape, Args], Shape] = _same_shape
    refuses: Callable[[Shape, Args], str | None] = _any_shape
    ones: frozenset[str] = frozenset()
    buffers: Callable[[Shape, Args], dict[str, Buffer]] = _no_buffers
    over_batch: bool = False
    keep: Callable[[Args], float] | None = None
    ids: Callable[[Args], int] | None = None
    join: Callable[[Shape, Sequence[Shape]], Shape | None] | None = None


@dataclass(frozen=True)
class LossRule:
    """A loss of prediction and target, both (n, ...).

    Attributes:
        doc: the formula and the convention.
        arguments: what may be said about it in a problem.
        prediction: target shape -> prediction shape, both of one example.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    prediction: Callable[[Shape], Shape] = lambda target: target


@dataclass(frozen=True)
class OptimizerRule:
    """An optimizer: its update, its arguments and the state that it carries.

    Attributes:
        doc: the update in the field's symbols.
        arguments: hyperparameters; they stay float64 and each framework rounds them as it does for its users.
        state: arguments -> what it keeps per parameter between steps; ``momentum`` of ``0.linear/w`` is the
            array ``momentum/0.linear/w`` of a snapshot. Before the first step its value is that of the
            reference; no framework reads it before it has written it.
        refuses: arguments -> why they do not go together, or None.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    state: Callable[[Args], tuple[str, ...]] = lambda args: ()
    refuses: Callable[[Args], str | None] = lambda args: None


def _width(args: Args) -> int:
    return int(args["size"])


def _resized(shape: Shape, args: Args) -> Shape:
    return (*shape[:-1], _width(args))


def _vector(*names: str) -> Callable[[Shape, Args], dict[str, Shape]]:
    """Parameters of one value a channel: the last axis."""
    return lambda shape, args: dict.fromkeys(names, shape[-1:])


def _convolution(axes: int) -> Op:
    return Op(
        "Σ over the window of x W + b, W not flipped, of shape (window, ..., in, out)",
        {"size": Argument(int, "number of output channels", at_least=1), **_WINDOW, "stride": _STRIDE},
        parameters=lambda shape, args: {
            "w": shapes.convolution_weight(shape, args),
            "b": (_width(args),),
        },
        output=lambda shape, args: shapes.slid(shape, args, _width(args)),
        refuses=lambda shape, args: shapes.window_refusal(shape, args, (axes,)),
    )


def _pool(doc: str, **arguments: Argument) -> Op:
    return Op(
        doc,
        {**_WINDOW, "stride": _STRIDE, **arguments},
        output=lambda shape, args: shapes.slid(shape, args, shape[-1]),
        refuses=shapes.pool_refusal,
    )


def _running_averages(shape: Shape, args: Args) -> dict[str, Buffer]:
    if args["debias"]:
        return {
            "mean": Buffer(shape[-1:], 0.0),
            "variance": Buffer(shape[-1:], 0.0),
            "count": Buffer((), 0.0),
        }
    return {"mean": Buffer(shape[-1:], 0.0), "variance": Buffer(shape[-1:], 1.0)}


_WINDOW = {
    "window": Argument(int, "its length along each axis", at_least=1),
    "padding": Argument(int, "zeros at both ends of each axis", 0, at_least=0),
}
_STRIDE = Argument(int, "step from window to window", 1, at_least=1)
_NORM_EPSILON = Argument(float, "ε, inside the root", 1e-5, above=0.0)
_SIZE = Argument(int, "number of outputs", at_least=1)
_REDUCTION = Argument(str, "over all elements of the batch", "mean", choices=("sum", "mean"))

FUNCTIONS: Mapping[str, Op] = MappingProxyType(
    {
        "dot": Op(
            "x W, with W of shape (in, out)",
            {"size": _SIZE},
            parameters=lambda shape, args: {"w": (shape[-1], _width(args))},
            output=_resized,
        ),
        "add": Op("x + b, with b of shape (out,)", parameters=_vector("b")),
        "linear": Op(
            "x W + b: dot, then add",
            {"size": _SIZE},
            parameters=lambda shape, args: {"w": (shape[-1], _width(args)), "b": (_width(args),)},
            output=_resized,
        ),
        "scale": Op("x ⊙ s, with s of shape (out,)", parameters=_vector("s"), ones=frozenset({"s"})),
        "exp": Op("eˣ"),
        "log": Op("log x; not finite for x ≤ 0"),
        "square": Op("x²"),
        "sqrt": Op("√x; the derivative at 0 is infinite"),
        "abs": Op("|x|; the derivative at 0 is 0"),  # jnp.abs takes +1 there
        "relu": Op("max(x, 0); the derivative at 0 is 0"),
        # jax.nn.leaky_relu takes derivative 1 at 0, torch the slope.
        "leaky_relu": Op(
            "x where x > 0, else slope·x; the derivative at 0 is the slope",
            {"slope": Argument(float, "derivative on the left", 0.01, at_least=0.0)},
        ),
        "elu": Op(
            "x where x > 0, else α(eˣ − 1); the derivative at 0 is α",
            {"alpha": Argument(float, "α", 1.0, above=0.0)},
        ),
        "selu": Op("λ·elu(x, α) with the λ and α under which activations keep mean 0 and variance 1"),
        # torch's default is the exact form, jax.nn.gelu's the tanh form.
        "gelu": Op(
            "x Φ(x), Φ the normal distribution function, or its tanh approximation",
            {"approximate": Argument(str, "which form", "none", choices=("none", "tanh"))},
        ),
        "silu": Op("x σ(x)"),
        "sigmoid": Op("σ(x) = 1 / (1 + e⁻ˣ)"),
        "tanh": Op("tanh x"),
        # torch's Softplus returns x beyond a threshold of 20, an error of 1e-10 there.
        "softplus": Op("log(1 + eˣ), at any x"),
        "softmax": Op("eˣ / Σ eˣ over the last axis"),
        "log_softmax": Op("x − log Σ eˣ over the last axis"),
        "layer_norm": Op(
            "(x − μ)/√(σ² + ε) ⊙ scale + offset, μ and σ² over the last axis, σ² with 1/n",
            {"epsilon": _NORM_EPSILON},
            parameters=_vector("scale", "offset"),
            ones=frozenset({"scale"}),
        ),
        # torch's default ε is the dtype's rounding unit, Haiku's 1e-5.
        "rms_norm": Op(
            "x/√(mean x² + ε) ⊙ scale, over the last axis",
            {"epsilon": _NORM_EPSILON},
            parameters=_vector("scale"),
            ones=frozenset({"scale"}),
        ),
        # torch averages the unbiased variance from 1 on; Haiku the biased one from 0 on, and divides by 1 − (1 − α)ᵗ.
        "batch_norm": Op(
            "(x − μ)/√(σ² + ε) ⊙ scale + offset, μ and σ² over all axes but the last, σ² with 1/n; in evaluation "
            "the running averages r ← (1 − α) r + α s of the training statistics",
            {
                "epsilon": _NORM_EPSILON,
                "momentum": Argument(
                    float, "α, the weight of the newest statistic", 0.1, above=0.0, below=1.0
                ),
                "unbiased": Argument(bool, "average the variance with 1/(n − 1)", True),
                "debias": Argument(bool, "start the averages at 0 and divide by 1 − (1 − α)ᵗ", False),
            },
            parameters=_vector("scale", "offset"),
            ones=frozenset({"scale"}),
            buffers=_running_averages,
            over_batch=True,
        ),
        # The frameworks draw masks of their own; here NumPy draws one from the seed, and all share it.
        "dropout": Op(
            "x m/(1 − p) in training, with m = 0 with probability p, else 1, drawn anew each step; x in evaluation",
            {
                "rate": Argument(float, "p", at_least=0.0, below=1.0),
                "seed": Argument(int, "of the masks", 0, at_least=0),
            },
            keep=lambda args: 1 - float(args["rate"]),
        ),
        # An id beyond the table raises in torch and reads the last row in JAX; here the problem refuses it.
        "embedding": Op(
            "row x of W, with W of shape (ids, out), for whole numbers x",
            {"ids": Argument(int, "number of ids", at_least=1), "size": _SIZE},
            parameters=lambda shape, args: {"w": (int(args["ids"]), _width(args))},
            output=lambda shape, args: (*shape, _width(args)),
            ids=lambda args: int(args["ids"]),
        ),
        "conv1d": _convolution(1),
        "conv2d": _convolution(2),
        "max_pool": _pool(
            "the largest of each window; of several that are largest the first has derivative 1"
        ),
        "average_pool": _pool(
            "the mean of each window",
            count_padding=Argument(bool, "divide by the whole window, zeros of the padding included", True),
        ),
        "flatten": Op(
            "all axes of an example as one, the last fastest", output=lambda shape, args: shapes.flat(shape)
        ),
        "attention": Op(
            "softmax(Q Kᵀ/√d) V W_o + b_o, each head over its d columns of Q, K, V = x W + b",
            {
                "heads": Argument(int, "number of heads; they divide the width", 1, at_least=1),
                "causal": Argument(bool, "attend to the same and earlier places only", False),
            },
            parameters=lambda shape, args: {
                f"{kind}_{part}": (shape[-1],) * (2 if kind == "w" else 1)
                for part in ("query", "key", "value", "output")
                for kind in ("w", "b")
            },
            refuses=shapes.attention_refusal,
        ),
        "residual": Op("x + Σ branches(x)", join=shapes.added),
        "parallel": Op("the branches of x side by side along the last axis", join=shapes.joined),
    }
)

LOSSES: Mapping[str, LossRule] = MappingProxyType(
    {
        # torch's MSELoss and optax' squared_error agree on e²; optax' l2_loss is e²/2.
        "squared_error": LossRule(
            "e² with e = prediction − target, summed or averaged over all elements",
            {"reduction": _REDUCTION},
        ),
        "half_squared_error": LossRule("e²/2: optax' l2_loss", {"reduction": _REDUCTION}),
        "absolute_error": LossRule("|e|; the derivative at 0 is 0", {"reduction": _REDUCTION}),
        "huber": LossRule(
            "e²/2 where |e| ≤ δ, else δ(|e| − δ/2)",
            {"delta": Argument(float, "δ", 1.0, above=0.0), "reduction": _REDUCTION},
        ),
        # torch's SmoothL1Loss is its HuberLoss divided by β.
        "smooth_l1": LossRule(
            "e²/(2β) where |e| ≤ β, else |e| − β/2",
            {"beta": Argument(float, "β", 1.0, above=0.0), "reduction": _REDUCTION},
        ),
        "log_cosh": LossRule("log cosh e, at any e", {"reduction": _REDUCTION}),
        "quantile": LossRule(
            "max(q r, (q − 1) r) with r = target − prediction; the derivative at 0 is the mean of both sides",
            {"q": Argument(float, "the quantile", 0.5, above=0.0, below=1.0), "reduction": _REDUCTION},
        ),
        "poisson": LossRule(
            "eᵖ − y p: the negative log likelihood of counts y whose log rate is p, without its log(y!) term",
            {"reduction": _REDUCTION},
        ),
        "logistic": LossRule(
            "log(1 + eᵖ) − y p: cross-entropy of y in [0, 1] with logit p, at any p",
            {"reduction": _REDUCTION},
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

_RATE = Argument(float, "η", above=0.0)
_DECAY = Argument(float, "λ, added to the gradient as λ w (coupled)", 0.0, at_least=0.0)


def _epsilon(default: float, where: str) -> Argument:
    return Argument(float, f"ε, {where}", default, above=0.0)


def _fraction(symbol: str, default: float) -> Argument:
    return Argument(float, symbol, default, at_least=0.0, below=1.0)


def _kept(*named: tuple[str, bool]) -> tuple[str, ...]:
    """The names whose condition holds."""
    return tuple(name for name, condition in named if condition)


def _refuse_nesterov(args: Args) -> str | None:
    if args["nesterov"] and (not args["momentum"] or args["dampening"]):
        return "nesterov needs a momentum above 0 and no dampening"
    return None


OPTIMIZERS: Mapping[str, OptimizerRule] = MappingProxyType(
    {
        # torch's first buffer is the gradient itself, undamped; optax' ema damps it too.
        "sgd": OptimizerRule(
            "b ← μ b + (1 − τ) g, at the first step b ← g; w ← w − η b, with Nesterov w ← w − η (g + μ b)",
            {
                "learning_rate": _RATE,
                "momentum": _fraction("μ", 0.0),
                "dampening": _fraction("τ", 0.0),
                "nesterov": Argument(bool, "look ahead", False),
                "weight_decay": _DECAY,
            },
            state=lambda args: _kept(("momentum", bool(args["momentum"]))),
            refuses=_refuse_nesterov,
        ),
        # optax' adagrad has ε inside the root and starts its accumulator at 0.1.
        "adagrad": OptimizerRule(
            "s ← s + g²; w ← w − η g / (√s + ε)",
            {
                "learning_rate": _RATE,
                "initial_accumulator": Argument(float, "s before the first step", 0.0, at_least=0.0),
                "epsilon": _epsilon(1e-10, "outside the root"),
                "weight_decay": _DECAY,
            },
            state=lambda args: ("sum",),
        ),
        "adadelta": OptimizerRule(
            "s ← ρ s + (1 − ρ) g²; d = g √(a + ε) / √(s + ε); a ← ρ a + (1 − ρ) d²; w ← w − η d",
            {
                "learning_rate": _RATE,
                "rho": _fraction("ρ", 0.9),
                "epsilon": _epsilon(1e-6, "inside both roots"),
                "weight_decay": _DECAY,
            },
            state=lambda args: ("square", "delta"),
        ),
        # optax' rmsprop decays by 0.9 where torch's decays by 0.99, has ε inside the root, and its alias puts the
        # rate inside the momentum's trace.
        "rmsprop": OptimizerRule(
            "s ← α s + (1 − α) g²; d = g / (√s + ε), centered g / (√(s − m²) + ε) with m the average of g; "
            "b ← μ b + d; w ← w − η b",
            {
                "learning_rate": _RATE,
                "decay": _fraction("α", 0.99),
                "epsilon": _epsilon(1e-8, "outside the root"),
                "centered": Argument(bool, "subtract the squared average", False),
                "momentum": _fraction("μ", 0.0),
                "weight_decay": _DECAY,
            },
            state=lambda args: _kept(
                ("square", True), ("mean", bool(args["centered"])), ("momentum", bool(args["momentum"]))
            ),
        ),
        # torch's AMSGrad corrects the bias after the maximum, optax' before it.
        "adam": OptimizerRule(
            "m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), "
            "v̂ = v / (1 − β₂ᵗ); AMSGrad takes the largest v so far",
            {
                "learning_rate": _RATE,
                "beta1": _fraction("β₁", 0.9),
                "beta2": _fraction("β₂", 0.999),
                "epsilon": _epsilon(1e-8, "outside the root"),
                "amsgrad": Argument(bool, "take the largest v", False),
                "weight_decay": _DECAY,
            },
            state=lambda args: _kept(("mean", True), ("square", True), ("largest", bool(args["amsgrad"]))),
        ),
        # torch's default decay is 1e-2, optax' 1e-4; both scale it by the rate.
        "adamw": OptimizerRule(
            "Adam's update and, decoupled from it, w ← w − η λ w",
            {
                "learning_rate": _RATE,
                "beta1": _fraction("β₁", 0.9),
                "beta2": _fraction("β₂", 0.999),
                "epsilon": _epsilon(1e-8, "outside the root"),
                "weight_decay": Argument(float, "λ", 1e-2, at_least=0.0),
            },
            state=lambda args: ("mean", "square"),
        ),
        "adamax": OptimizerRule(
            "m as Adam's; v ← max(β₂ v, |g| + ε); w ← w − η m / ((1 − β₁ᵗ) v)",
            {
                "learning_rate": _RATE,
                "beta1": _fraction("β₁", 0.9),
                "beta2": _fraction("β₂", 0.999),
                "epsilon": _epsilon(1e-8, "added to |g|"),
                "weight_decay": _DECAY,
            },
            state=lambda args: ("mean", "largest"),
        ),
        "lion": OptimizerRule(
            "w ← w − η (sign(β₁ m + (1 − β₁) g) + λ w); m ← β₂ m + (1 − β₂) g",
            {
                "learning_rate": _RATE,
                "beta1": _fraction("β₁", 0.9),
                "beta2": _fraction("β₂", 0.99),
                "weight_decay": Argument(float, "λ, decoupled", 0.0, at_least=0.0),
            },
            state=lambda args: ("mean",),
        ),
    }
)


@dataclass(frozen=True)
class ScheduleRule:
    """A schedule: what the learning rate η is multiplied with at update t = 0, 1, 2, ..."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    refuses: Callable[[Args], str | None] = lambda args: None


_STEPS = Argument(int, "T, counted in updates", at_least=1)
_FACTOR = Argument(float, "γ", above=0.0)
_FINAL = Argument(float, "f, the fraction of η that is left at the end", 0.0, at_least=0.0)


def _refuse_warmup(args: Args) -> str | None:
    return None if int(args["warmup"]) < int(args["steps"]) else "the warm-up must be shorter than steps"


SCHEDULES: Mapping[str, ScheduleRule] = MappingProxyType(
    {
        "constant": ScheduleRule("1"),
        "step": ScheduleRule("γ^⌊t/T⌋", {"steps": _STEPS, "factor": _FACTOR}),
        "exponential": ScheduleRule("γᵗ", {"factor": _FACTOR}),
        "polynomial": ScheduleRule(
            "(1 − min(t, T)/T)ᵖ", {"steps": _STEPS, "power": Argument(float, "p", 1.0, above=0.0)}
        ),
        # torch's CosineAnnealingLR rises again after T, optax' stays, as here.
        "cosine": ScheduleRule("f + (1 − f)(1 + cos(π min(t, T)/T))/2", {"steps": _STEPS, "final": _FINAL}),
        # optax' decay_steps include the warm-up, as T does here.
        "warmup_cosine": ScheduleRule(
            "t/W up to W, then f + (1 − f)(1 + cos(π (min(t, T) − W)/(T − W)))/2",
            {"warmup": Argument(int, "W, counted in updates", at_least=1), "steps": _STEPS, "final": _FINAL},
            refuses=_refuse_warmup,
        ),
    }
)


@dataclass(frozen=True)
class ClipRule:
    """What is done to the gradients of all parameters before the optimizer sees them."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


_LIMIT = Argument(float, "L", above=0.0)

CLIPS: Mapping[str, ClipRule] = MappingProxyType(
    {
        "none": ClipRule("g"),
        # torch's clip_grad_norm_ has ε = 1e-6 and cannot change it; optax' clip_by_global_norm has none.
        "norm": ClipRule(
            "g min(1, L / (‖g‖ + ε)), with ‖g‖ over all parameters together",
            {
                "limit": _LIMIT,
                "epsilon": Argument(float, "ε: 1e-6 is torch's, 0 is optax'", 1e-6, at_least=0.0),
            },
        ),
        "value": ClipRule("each element to [−L, L]", {"limit": _LIMIT}),
    }
)


@dataclass(frozen=True)
class PenaltyRule:
    """What the parameters themselves add to the loss."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


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


@dataclass(frozen=True)
class AverageRule:
    """What is kept of the parameters' past, beside training, to be used in their place afterwards."""

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)


AVERAGES: Mapping[str, AverageRule] = MappingProxyType(
    {
        "none": AverageRule("nothing is kept"),
        # torch's AveragedModel with get_ema_multi_avg_fn starts from a copy, optax.ema from zero.
        "ema": AverageRule(
            "a ← d a + (1 − d) w after each update; at the first a ← w, or debiased a ← (1 − d) w and reported "
            "as a / (1 − dᵗ) after t updates",
            {
                "decay": Argument(float, "d", at_least=0.0, below=1.0),
                "debias": Argument(bool, "start from zero, as optax.ema, instead of from a copy", False),
            },
        ),
    }
)


def checked_name(kind: str, name: object, table: Mapping[str, object]) -> str:
    """The name, if the table has it.

    Raises:
        ProblemError: it is not a string.
        UnknownNameError: the table has no such member; the message says the closest.
    """
    if not isinstance(name, str):
        raise ProblemError(f"the name of the {kind} has the wrong type", repr(name), "give a string")
    if name not in table:
        hint = did_you_mean(name, table)
        raise UnknownNameError(f"unknown {kind}", repr(name), f"{hint}known: {', '.join(table)}")
    return name


def checked_args(
    where: str, args: Mapping[str, object], arguments: Mapping[str, Argument]
) -> Mapping[str, Value]:
    """All arguments of a member, checked, with the defaults filled in, read-only.

    Raises:
        ProblemError: an argument is unknown, missing, of the wrong type or out of range.
    """
    if unknown := sorted(set(args) - set(arguments)):
        raise ProblemError(
            f"{where} does not take {', '.join(map(repr, unknown))}",
            repr(dict(args)),
            f"it takes: {', '.join(arguments) or 'no arguments'}",
        )
    checked: dict[str, Value] = {}
    for name, argument in arguments.items():
        value = args.get(name, argument.default)
        if value is None:
            raise ProblemError(
                f"{where} lacks {name!r} ({argument.doc})", repr(dict(args)), f"give {argument.describe()}"
            )
        checked[name] = argument.check(f"{where}: {name}", value)
    return MappingProxyType(checked)
