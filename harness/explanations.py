"""What ported training code is known to get wrong: a table of explanations, each a way to alter the reference.

A row names the mistake and makes its variants for a problem; one that does not apply to the problem has none. The most
specific come first: what an earlier row explains is not offered by a later one. `harness.explain` tries them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.errors import ProblemError
from backends.ops import OPTIMIZERS, Argument
from backends.problem import (
    CONSTANT,
    UNCLIPPED,
    Array,
    Arrays,
    Clip,
    Loss,
    Optimizer,
    Penalty,
    Problem,
    Schedule,
)
from backends.protocol import Snapshot
from harness.variants import Settle, Turn, Variant


@dataclass(frozen=True)
class Explanation:
    """One known mistake.

    Attributes:
        name: a short name, the same in every report.
        variants: (problem, the suspect's initial parameters) -> how the reference is altered, in each way it can be made.
    """

    name: str
    variants: Callable[[Problem, Arrays], Iterator[Variant]]


def variants_of(explanation: Explanation, problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The variants of an explanation, up to one whose problem would not be valid."""
    with suppress(ProblemError):
        yield from explanation.variants(problem, initial)


def _reduction(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    args = problem.loss.args
    does = {
        "sum": "averages the loss where the problem sums it",
        "mean": "sums the loss where the problem averages it",
    }
    if args.get("reduction") in does:
        other = {"sum": "mean", "mean": "sum"}[args["reduction"]]
        yield Variant(
            does[args["reduction"]],
            problem.replace(loss=Loss(problem.loss.name, **{**args, "reduction": other})),
        )


def _half_squares(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    pair = {
        "squared_error": ("half_squared_error", "takes half the squares"),
        "half_squared_error": ("squared_error", "takes the whole squares where the problem says half"),
    }
    if problem.loss.name in pair:
        name, does = pair[problem.loss.name]
        yield Variant(does, problem.replace(loss=Loss(name, **problem.loss.args)))


def _last_batch(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    size, kept = problem.batching.size, problem.batching.keep_last
    if size is not None and len(problem.x) % size:
        does = (
            "drops the last, short batch"
            if kept
            else "trains on the last, short batch that the problem drops"
        )
        yield Variant(
            does, problem.replace(batching=dataclasses.replace(problem.batching, keep_last=not kept))
        )


def _order(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    if problem.batching.shuffle is not None:
        yield Variant(
            "deals the rows in the order of the data, unshuffled",
            problem.replace(batching=dataclasses.replace(problem.batching, shuffle=None)),
        )


def _short_run(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    for epochs, does in (
        (problem.epochs - 1, "stops one epoch early"),
        (problem.epochs + 1, "trains one epoch more"),
    ):
        if epochs:
            yield Variant(does, problem.replace(epochs=epochs))


def _rearranged(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Only what the suspect shows: its own initial parameters, where they are ours in another order."""
    ours = problem.initial_parameters()
    moved = {name: value for name, value in initial.items() if name in ours and not _equal(ours[name], value)}
    if not moved or any(
        not _equal(np.sort(ours[name], axis=None), np.sort(moved[name], axis=None)) for name in moved
    ):
        return
    turned = all(_equal(ours[name].T, value) for name, value in moved.items())
    yield Variant(
        f"starts from {', '.join(moved)} {'transposed' if turned else 'permuted'}",
        problem.replace(initial={**problem.initial, **moved}),
    )


def _equal(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool((left == right).all())


def _transposed_gradient(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    square = [
        name
        for name, shape in problem.parameter_shapes.items()
        if len(shape) == 2 and shape[0] == shape[1] > 1
    ]
    for name in square:
        yield Variant(f"transposes the gradient of {name}", problem, turn=_only(name, np.transpose))


def _weight_decay(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    args = problem.optimizer.args
    if not args.get("weight_decay"):
        return
    if problem.optimizer.name == "adamw":
        shared = {key: value for key, value in args.items() if key in OPTIMIZERS["adam"].arguments}
        yield Variant(
            "couples the weight decay with the gradient where the problem decouples it",
            problem.replace(optimizer=Optimizer("adam", **shared)),
        )
    if "decoupled" in args:
        does = (
            "couples the weight decay with the gradient where the problem decouples it"
            if args["decoupled"]
            else "decouples the weight decay from the gradient where the problem couples it"
        )
        yield from _with(problem, does, decoupled=not args["decoupled"])
    yield from _with(problem, "leaves the weight decay out", weight_decay=0.0)


def _nesterov(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    args = problem.optimizer.args
    if args.get("momentum") and "nesterov" in args:
        does = (
            "takes plain momentum for Nesterov's"
            if args["nesterov"]
            else "takes Nesterov's momentum for plain"
        )
        yield from _with(problem, does, nesterov=not args["nesterov"])


def _momentum(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    if problem.optimizer.args.get("momentum"):
        plain = {"nesterov": False} if "nesterov" in problem.optimizer.args else {}
        yield from _with(problem, "leaves the momentum out", momentum=0.0, **plain)


def _dampening(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    args = problem.optimizer.args
    if not args.get("momentum") or "dampening" not in args:
        return
    if args["dampening"]:
        yield from _with(problem, "leaves the dampening out", dampening=0.0)
        return
    for first in (False, True):
        where = ", at the first step, too" if first else ", but not at the first step"
        yield from _with(
            problem,
            f"damps the gradient by one minus the momentum{where}",
            dampening=args["momentum"],
            first_damped=first,
        )


def _epsilon_place(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    args = problem.optimizer.args
    for key, there, here in (
        ("epsilon_inside", "inside the root", "outside the root"),
        ("epsilon_corrected", "to the corrected root", "to the uncorrected root"),
        ("epsilon_added", "to the squares", "as the least value"),
    ):
        if key in args:
            yield from _with(problem, f"adds epsilon {here if args[key] else there}", **{key: not args[key]})
    if "epsilon_root" in args:
        yield from _with(problem, "adds epsilon inside the root", epsilon=_NONE, epsilon_root=args["epsilon"])
        if args["epsilon_root"]:
            yield from _with(
                problem, "adds epsilon outside the root", epsilon=args["epsilon_root"], epsilon_root=0.0
            )
            yield from _with(problem, "leaves the epsilon inside the root out", epsilon_root=0.0)
        yield from _uncorrected(problem, ("epsilon",), "adds epsilon before the bias correction")


_NONE = 1e-300
"""An epsilon of nothing: it must be above 0."""


def _epsilon_size(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    for epsilon in (1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-16):
        if problem.optimizer.args.get("epsilon") not in (None, 0.0, epsilon):
            yield from _with(problem, f"has an epsilon of {epsilon:g}", epsilon=epsilon)


def _bias_correction(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    yield from _uncorrected(problem, ("mean", "square"), "leaves both bias corrections out")
    yield from _uncorrected(problem, ("square",), "leaves the bias correction of the squares out")
    yield from _uncorrected(problem, ("mean",), "leaves the bias correction of the mean out")


def _uncorrected(problem: Problem, parts: tuple[str, ...], does: str) -> Iterator[Variant]:
    """Adam's update, of which the corrections in `parts` are taken back."""
    args = problem.optimizer.args
    decoupled = args.get("weight_decay") and args.get("decoupled", True)
    if problem.optimizer.name in ("adam", "adamw") and not args.get("amsgrad") and not decoupled:
        yield Variant(does, problem, settle=_recorrected(problem, parts))


def _recorrected(problem: Problem, parts: tuple[str, ...]) -> Settle:
    """Multiplies u = −η m̂ / (√(v̂ + ε_root) + ε) by what the altered denominator and mean make of it, whatever η is."""
    args, every = problem.optimizer.args, problem.accumulation
    epsilon, root = args["epsilon"], args.get("epsilon_root", 0.0)

    def settle(before: Snapshot, after: Snapshot) -> Snapshot:
        if after.step % every:
            return after
        mean, square = (1 - args[beta] ** (after.step // every) for beta in ("beta1", "beta2"))
        parameters = {}
        for name, value in after.parameters.items():
            second = after.optimizer[f"square/{name}"].astype(np.float64)
            ours = np.sqrt(second / square + root) + epsilon
            theirs = np.sqrt(second / (1.0 if "square" in parts else square) + root)
            theirs = theirs + epsilon / (np.sqrt(square) if "epsilon" in parts else 1.0)
            update = value.astype(np.float64) - before.parameters[name]
            factor = ours / theirs * (mean if "mean" in parts else 1.0)
            parameters[name] = (before.parameters[name] + update * factor).astype(value.dtype)
        return dataclasses.replace(after, parameters=parameters)

    return settle


def _counter(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The update count moves the schedule and the bias corrections together."""
    if problem.schedule == CONSTANT and not ({"beta1", "decay"} & problem.optimizer.args.keys()):
        return

    def start(snapshot: Snapshot) -> Snapshot:
        return dataclasses.replace(snapshot, step=snapshot.step + problem.accumulation)

    yield Variant("counts its updates from one too many", problem, start=start)


def _schedule(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """The learning rate alone, early or late by one update; left out; counting batches."""
    name, args, every = problem.schedule.name, problem.schedule.args, problem.accumulation
    if problem.schedule == CONSTANT:
        return
    yield Variant("leaves the schedule out", problem.replace(schedule=CONSTANT))
    if every > 1 and name == "exponential":
        faster = Schedule(name, factor=args["factor"] ** every)
        yield Variant("counts batches, not updates, in the schedule", problem.replace(schedule=faster))
    for by, does in ((1, "is one step of the schedule ahead"), (-1, "is one step of the schedule late")):
        if name == "exponential":
            rate = problem.optimizer.args["learning_rate"] * args["factor"] ** by
            yield from _with(problem, does, learning_rate=rate)
        elif turns := _turns(problem):
            with suppress(ProblemError):
                moved = {turn - by: factor for turn, factor in turns.items()}
                course = Schedule("piecewise", boundaries=tuple(moved), factors=tuple(moved.values()))
                yield Variant(does, problem.replace(schedule=course))


def _turns(problem: Problem) -> dict[int, Any]:
    """Update -> what the rate is multiplied with from there on, of a schedule that is constant between."""
    args = problem.schedule.args
    if problem.schedule.name == "piecewise":
        return dict(zip(args["boundaries"], args["factors"], strict=True))
    if problem.schedule.name == "step":
        updates = problem.steps // problem.accumulation
        return dict.fromkeys(range(args["steps"], updates + 2, args["steps"]), args["factor"])
    return {}


def _accumulated(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    every = problem.accumulation
    if every > 1:
        yield Variant(
            "sums the accumulated gradients instead of averaging them", problem, turn=_scaled(every)
        )


def _penalties(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    if not problem.penalties:
        return
    others = {"all": "weights", "weights": "all"}
    swapped = [
        Penalty(one.name, **{**one.args, "parameters": others[str(one.args["parameters"])]})
        for one in problem.penalties
    ]
    yield Variant("leaves the penalty out", problem.replace(penalties=()))
    yield Variant(
        "penalises other parameters: all for the weights, or the weights for all",
        problem.replace(penalties=swapped),
    )


def _clip(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    if problem.clip == UNCLIPPED:
        return
    name, limit = problem.clip.name, problem.clip.args["limit"]
    yield Variant("does not clip the gradients", problem.replace(clip=UNCLIPPED))
    other = {"norm": "value", "value": "norm"}[name]
    yield Variant(
        f"clips by {other} where the problem clips by {name}", problem.replace(clip=Clip(other, limit=limit))
    )


def _other_switch(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    """Every switch that the optimizer's row has beside those that have an explanation of their own."""
    named = {"epsilon_inside", "epsilon_corrected", "epsilon_added", "decoupled", "nesterov"}
    arguments: Mapping[str, Argument] = OPTIMIZERS[problem.optimizer.name].arguments
    for key, value in problem.optimizer.args.items():
        if isinstance(value, bool) and key not in named:
            how = "without" if value else "with"
            yield from _with(problem, f"trains {how} {key} ({arguments[key].doc})", **{key: not value})


def _preset(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    name, args = problem.optimizer.name, problem.optimizer.args
    for preset, theirs in OPTIMIZERS[name].presets.items():
        others = {key: value for key, value in theirs.items() if key != "learning_rate"}
        defaults = {
            key: value
            for key, value in Optimizer(name, **{"learning_rate": 1.0, **theirs}).args.items()
            if key in args
        }
        for changes in (others, {**defaults, "learning_rate": args["learning_rate"]}):
            if any(args[key] != value for key, value in changes.items()):
                yield from _with(problem, f"follows the conventions of {preset}", **changes)


def _sign(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    yield Variant("ascends: its gradients have the wrong sign", problem, turn=_scaled(-1.0))


def _ratio(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    rows, outputs = len(problem.x), int(np.prod(problem.y.shape[1:]))
    size = problem.batching.size or rows
    counts = {
        2: "two sides",
        rows: "the rows",
        size: "the rows of a batch",
        outputs: "the outputs",
        size * outputs: "all elements",
    }
    for count, what in counts.items():
        if count > 1:
            yield Variant(
                f"multiplies its gradients by {count}, as many as {what}", problem, turn=_scaled(float(count))
            )
            yield Variant(
                f"divides its gradients by {count}, as many as {what}", problem, turn=_scaled(1 / count)
            )


def _stale(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    yield Variant(
        "applies the gradients of the step before", problem, turn=lambda grads, previous: previous or grads
    )


def _untouched(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    kinds: dict[str, set[str]] = {name: {name} for name in problem.parameter_shapes}
    for name in problem.parameter_shapes:  # all biases, all scales: what belongs to one kind of parameter
        kinds.setdefault(f"any /{name.rpartition('/')[2]}", set()).add(name)
    for what, names in kinds.items():
        if len(names) < len(problem.parameter_shapes) and not (what.startswith("any") and len(names) == 1):
            yield Variant(f"never updates {what}", problem, settle=_kept(frozenset(names)))


def _single(problem: Problem, initial: Arrays) -> Iterator[Variant]:
    if problem.dtype != "float64":
        return
    single: Callable[[Array], Array] = lambda value: value.astype(np.float32).astype(value.dtype)  # noqa: E731
    yield Variant(
        "rounds its gradients to float32", problem, turn=lambda grads, previous: _each(grads, single)
    )
    yield Variant(
        "keeps its parameters in float32",
        problem,
        start=lambda snapshot: dataclasses.replace(snapshot, parameters=_each(snapshot.parameters, single)),
        settle=lambda before, after: dataclasses.replace(after, parameters=_each(after.parameters, single)),
    )
    yield Variant("rounds its data to float32", problem.replace(x=single(problem.x), y=single(problem.y)))
    yield Variant(
        "rounds its initial parameters to float32", problem.replace(initial=_each(problem.initial, single))
    )
    rate = float(np.float32(problem.optimizer.args["learning_rate"]))
    yield from _with(problem, "rounds its learning rate to float32", learning_rate=rate)


def _with(problem: Problem, does: str, **changes: Any) -> Iterator[Variant]:
    """Other arguments of the optimizer; nothing where they do not go together."""
    optimizer = problem.optimizer
    with suppress(ProblemError):
        altered = Optimizer(optimizer.name, **{**optimizer.args, **changes})
        yield Variant(does, problem.replace(optimizer=altered))


def _each(arrays: Arrays, change: Callable[[Array], Array]) -> dict[str, Array]:
    return {name: change(value) for name, value in arrays.items()}


def _scaled(factor: float) -> Turn:
    return lambda grads, previous: _each(grads, lambda grad: factor * grad)


def _only(name: str, change: Callable[[Array], Array]) -> Turn:
    return lambda grads, previous: {**grads, name: change(grads[name])}


def _kept(names: frozenset[str]) -> Settle:
    def settle(before: Snapshot, after: Snapshot) -> Snapshot:
        kept = {name: value for name, value in before.parameters.items() if name in names}
        return dataclasses.replace(after, parameters={**after.parameters, **kept})

    return settle


EXPLANATIONS = (
    Explanation("mean and sum", _reduction),
    Explanation("half squares", _half_squares),
    Explanation("last batch", _last_batch),
    Explanation("batch order", _order),
    Explanation("length of the run", _short_run),
    Explanation("rearranged parameter", _rearranged),
    Explanation("transposed gradient", _transposed_gradient),
    Explanation("sign", _sign),
    Explanation("accumulation", _accumulated),
    Explanation("weight decay", _weight_decay),
    Explanation("Nesterov and plain momentum", _nesterov),
    Explanation("no momentum", _momentum),
    Explanation("dampening", _dampening),
    Explanation("place of epsilon", _epsilon_place),
    Explanation("size of epsilon", _epsilon_size),
    Explanation("bias correction", _bias_correction),
    Explanation("schedule", _schedule),
    Explanation("update count", _counter),
    Explanation("penalty", _penalties),
    Explanation("clip", _clip),
    Explanation("switch of the optimizer", _other_switch),
    Explanation("conventions of another framework", _preset),
    Explanation("constant ratio", _ratio),
    Explanation("stale gradient", _stale),
    Explanation("parameter never updated", _untouched),
    Explanation("single precision", _single),
)
"""All that are known, the most specific first."""
