"""The functions that a model is a chain of: one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lockstep.backends import shapes
from lockstep.backends.rules import Args, Argument, Buffer, Op
from lockstep.backends.shapes import Shape


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
