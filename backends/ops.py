"""The functions, losses and optimizers as data: what they are called, what they take, what shapes they make.

Every backend implements the same members; here stands, once, what is true of a member whichever framework
computes it: its arguments with their ranges, its parameters' shapes, its conventions. A `Problem` is checked
against these tables, the JSON Schema of the problem file is made from them, and the tests are parametrised
over them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from lockstep.backends import shapes
from lockstep.backends.errors import ProblemError, UnknownNameError, did_you_mean
from lockstep.backends.shapes import Shape

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
Args = Mapping[str, Any]
"""Checked arguments by name; which type each has is said by its `Argument`."""


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
        many: whether it is a list of such values, one at least; it is kept as a tuple.
    """

    kind: type[bool] | type[int] | type[float] | type[str]
    doc: str
    default: Value | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    many: bool = False

    def check(self, where: str, value: object) -> Value:
        """The value, converted to `kind`, or a ProblemError that names the field `where`."""
        if not self.many:
            return self._check_one(where, value)
        if not isinstance(value, (list, tuple)) or not value:
            raise ProblemError(
                f"{where} is not a list of values",
                f"{value!r} ({type(value).__name__})",
                f"give {self.describe()}",
            )
        return tuple(self._check_one(f"{where}[{index}]", one) for index, one in enumerate(value))

    def _check_one(self, where: str, value: object) -> Scalar:
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

    def _in_range(self, value: Scalar) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
        )

    def describe(self) -> str:
        """The values it may take, as words: ``a float > 0``; of a list: ``one or more of int >= 1``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">", self.above), (">=", self.at_least), ("<", self.below))
            if bound is not None
        ]
        article = "one or more of" if self.many else "an" if self.kind is int else "a"
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


@dataclass(frozen=True)
class Rule:
    """A row of a table: what is true of one member, whichever framework computes it.

    Attributes:
        doc: the formula and the convention.
        arguments: what may be said about it in a problem.
        presets: framework -> the default arguments of that framework's own member, where they are not ours. A
            framework that has no such member has no preset.
        conventions: where the frameworks part in a way that no argument reaches, in words.
    """

    doc: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    presets: Mapping[str, Args] = field(default_factory=dict, kw_only=True)
    conventions: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Op(Rule):
    """A function of the model. Shapes are those of one example: without the leading batch axis.

    Attributes:
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
class LossRule(Rule):
    """A loss of prediction and target, both (n, ...).

    Attributes:
        prediction: target shape -> prediction shape, both of one example.
    """

    prediction: Callable[[Shape], Shape] = lambda target: target


@dataclass(frozen=True)
class Slot:
    """One array that an optimizer keeps for a parameter between steps.

    Attributes:
        initial: every element before the first step.
        shape: the parameter's shape -> the array's, or None where such a parameter has none.
    """

    initial: float = 0.0
    shape: Callable[[Shape], Shape | None] = lambda shape: shape


@dataclass(frozen=True)
class OptimizerRule(Rule):
    """An optimizer: its update, its arguments and the state that it carries.

    Its hyperparameters stay float64 and each framework rounds them as it does for its users.

    Attributes:
        state: arguments -> what it keeps per parameter between steps; ``momentum`` of ``0.linear/w`` is the
            array ``momentum/0.linear/w`` of a snapshot.
        refuses: arguments -> why they do not go together, or None.
        refuses_parameter: (shape, arguments) -> why a parameter of that shape cannot be trained, or None.
    """

    state: Callable[[Args], Mapping[str, Slot]] = lambda args: {}
    refuses: Callable[[Args], str | None] = lambda args: None
    refuses_parameter: Callable[[Shape, Args], str | None] = _any_shape


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
        "abs": Op("|x|; the derivative at 0 is 0", conventions="at 0 jnp.abs has derivative 1, torch.abs 0"),
        "relu": Op(
            "max(x, 0); the derivative at 0 is 0",
            conventions="at 0 torch.relu and jax.nn.relu have derivative 0, maximum(x, 0) has 0.5 in both",
        ),
        "leaky_relu": Op(
            "x where x > 0, else slope·x; the derivative at 0 is the slope",
            {"slope": Argument(float, "derivative on the left", 0.01, at_least=0.0)},
            conventions="at 0 jax.nn.leaky_relu has derivative 1, torch's the slope",
        ),
        "elu": Op(
            "x where x > 0, else α(eˣ − 1); the derivative at 0 is α",
            {"alpha": Argument(float, "α", 1.0, above=0.0)},
        ),
        "selu": Op("λ·elu(x, α) with the λ and α under which activations keep mean 0 and variance 1"),
        "gelu": Op(
            "x Φ(x), Φ the normal distribution function, or its tanh approximation",
            {"approximate": Argument(str, "which form", "none", choices=("none", "tanh"))},
            presets={"torch": {"approximate": "none"}, "jax": {"approximate": "tanh"}},
        ),
        "silu": Op("x σ(x)"),
        "sigmoid": Op("σ(x) = 1 / (1 + e⁻ˣ)"),
        "tanh": Op("tanh x"),
        "softplus": Op(
            "log(1 + eˣ), at any x",
            conventions="torch's Softplus returns x beyond its threshold of 20, an error of 2e-9 there",
        ),
        "log_sigmoid": Op("log σ(x) = −softplus(−x), at any x"),
        "softmax": Op("eˣ / Σ eˣ over the last axis"),
        "log_softmax": Op("x − log Σ eˣ over the last axis"),
        "layer_norm": Op(
            "(x − μ)/√(σ² + ε) ⊙ scale + offset, μ and σ² over the last axis, σ² with 1/n",
            {"epsilon": _NORM_EPSILON},
            parameters=_vector("scale", "offset"),
            ones=frozenset({"scale"}),
        ),
        "rms_norm": Op(
            "x/√(mean x² + ε) ⊙ scale, over the last axis",
            {"epsilon": _NORM_EPSILON},
            parameters=_vector("scale"),
            ones=frozenset({"scale"}),
            conventions="ε: torch's default is the dtype's rounding unit (2.2e-16 in float64), Haiku's 1e-5",
        ),
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
            presets={"torch": {}, "jax": {"unbiased": False, "debias": True}},
            conventions="training is the same; in evaluation torch reads averages that began at 0 and 1, of the "
            "unbiased variance, Haiku debiased ones, of the biased variance",
        ),
        "dropout": Op(
            "x m/(1 − p) in training, with m = 0 with probability p, else 1, drawn anew each step; x in evaluation",
            {
                "rate": Argument(float, "p", at_least=0.0, below=1.0),
                "seed": Argument(int, "of the masks", 0, at_least=0),
            },
            keep=lambda args: 1 - float(args["rate"]),
            conventions="each framework draws masks of its own; here NumPy draws them from the seed for all",
        ),
        "embedding": Op(
            "row x of W, with W of shape (ids, out), for whole numbers x",
            {"ids": Argument(int, "number of ids", at_least=1), "size": _SIZE},
            parameters=lambda shape, args: {"w": (int(args["ids"]), _width(args))},
            output=lambda shape, args: (*shape, _width(args)),
            ids=lambda args: int(args["ids"]),
            conventions="an id beyond the table raises in torch and reads the last row in JAX; the problem refuses it",
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
            conventions="torch's boolean mask says where not to look, Haiku's where to look",
        ),
        "residual": Op("x + Σ branches(x)", join=shapes.added),
        "parallel": Op("the branches of x side by side along the last axis", join=shapes.joined),
    }
)

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


def _kept(**named: object) -> dict[str, Slot]:
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

    def factored(shape: Shape, kept: Shape) -> Shape | None:
        return kept if _is_factored(shape, args) else None

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
            state=lambda args: _kept(momentum=args["momentum"]),
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
            state=lambda args: _kept(square=True, delta=True),
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
            state=lambda args: _kept(square=True, mean=args["centered"], momentum=args["momentum"]),
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
            state=lambda args: _kept(mean=True, square=True, largest=args["amsgrad"]),
            presets={"torch": {"learning_rate": 1e-3}, "optax": {"amsgrad_corrected": True}},
            conventions="amsgrad_corrected shows only with amsgrad; without x64 optax forms 1 − βᵗ in float32",
        ),
        "adamw": OptimizerRule(
            "Adam's update and, decoupled from it, w ← w − η λ w",
            {"learning_rate": _RATE, **_MOMENTS, **_EPSILON_ROOT, **_decoupled(1e-2)},
            state=lambda args: _kept(mean=True, square=True),
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
            state=lambda args: _kept(mean=True, largest=True),
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
            state=lambda args: _kept(mean=True, square=True),
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
            state=lambda args: _kept(mean=True, square=True),
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
            state=lambda args: _kept(mean=True),
            presets={"optax": {"weight_decay": 1e-3}},
            conventions="torch.optim has no Lion",
        ),
    }
)


@dataclass(frozen=True)
class ScheduleRule(Rule):
    """A schedule: what the learning rate η is multiplied with at update t = 0, 1, 2, ..."""

    refuses: Callable[[Args], str | None] = lambda args: None


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


@dataclass(frozen=True)
class ClipRule(Rule):
    """What is done to the gradients of all parameters before the optimizer sees them."""


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


@dataclass(frozen=True)
class PenaltyRule(Rule):
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
class AverageRule(Rule):
    """What is kept of the parameters' past, beside training, to be used in their place afterwards."""


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


def preset_args(where: str, preset: str | None, presets: Mapping[str, Args]) -> Args:
    """The arguments of a preset; none where none is asked for.

    Raises:
        ProblemError: there is no such preset; the message lists those that exist.
    """
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in presets:
        fix = f"use {' or '.join(map(repr, presets))}, or none" if presets else "give its arguments"
        raise ProblemError(f"{where} has no such preset", repr(preset), fix)
    return presets[preset]


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
