"""Mistakes of the optimizer: its arguments, its conventions, its corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from lockstep.backends.errors import ProblemError
from lockstep.backends.ops import OPTIMIZERS, Argument
from lockstep.backends.problem import Optimizer, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations.explanation import (
    formula,
)
from lockstep.harness.runs.intervention import Intervention, OnState


@formula
def weight_decay(problem: Problem) -> Iterator[Intervention]:
    """Coupled for decoupled decay, or the other way round, or none."""
    args = problem.optimizer.args
    if not args.get("weight_decay"):
        return
    if problem.optimizer.name == "adamw":
        shared = {key: value for key, value in args.items() if key in OPTIMIZERS["adam"].arguments}
        yield Intervention(
            "couples the weight decay with the gradient where the problem decouples it",
            spec=problem.replace(optimizer=Optimizer("adam", **shared)),
        )
    if "decoupled" in args:
        description = (
            "couples the weight decay with the gradient where the problem decouples it"
            if args["decoupled"]
            else "decouples the weight decay from the gradient where the problem couples it"
        )
        yield from with_args(problem, description, decoupled=not args["decoupled"])
    yield from with_args(problem, "leaves the weight decay out", weight_decay=0.0)


@formula
def nesterov(problem: Problem) -> Iterator[Intervention]:
    """Nesterov's momentum for plain, or the other way round."""
    args = problem.optimizer.args
    if args.get("momentum") and "nesterov" in args:
        description = (
            "takes plain momentum for Nesterov's"
            if args["nesterov"]
            else "takes Nesterov's momentum for plain"
        )
        yield from with_args(problem, description, nesterov=not args["nesterov"])


@formula
def momentum(problem: Problem) -> Iterator[Intervention]:
    """Plain descent for momentum."""
    if problem.optimizer.args.get("momentum"):
        plain = {"nesterov": False} if "nesterov" in problem.optimizer.args else {}
        yield from with_args(problem, "leaves the momentum out", momentum=0.0, **plain)


@formula
def dampening(problem: Problem) -> Iterator[Intervention]:
    """An average of the gradients for their sum, as optax.ema, or the other way round."""
    args = problem.optimizer.args
    if not args.get("momentum") or "dampening" not in args:
        return
    if args["dampening"]:
        yield from with_args(problem, "leaves the dampening out", dampening=0.0)
        return
    for first in (False, True):
        where = ", at the first step, too" if first else ", but not at the first step"
        yield from with_args(
            problem,
            f"damps the gradient by one minus the momentum{where}",
            dampening=args["momentum"],
            first_damped=first,
        )


@formula
def epsilon_place(problem: Problem) -> Iterator[Intervention]:
    """ε inside or outside the root, before or after the bias correction."""
    args = problem.optimizer.args
    for key, there, here in (
        ("epsilon_inside", "inside the root", "outside the root"),
        ("epsilon_corrected", "to the corrected root", "to the uncorrected root"),
        ("epsilon_added", "to the squares", "as the least value"),
    ):
        if key in args:
            yield from with_args(
                problem, f"adds epsilon {here if args[key] else there}", **{key: not args[key]}
            )
    if "epsilon_root" in args:
        yield from with_args(
            problem, "adds epsilon inside the root", epsilon=_NONE, epsilon_root=args["epsilon"]
        )
        if args["epsilon_root"]:
            yield from with_args(
                problem, "adds epsilon outside the root", epsilon=args["epsilon_root"], epsilon_root=0.0
            )
            yield from with_args(problem, "leaves the epsilon inside the root out", epsilon_root=0.0)
        yield from _uncorrected(problem, ("epsilon",), "adds epsilon before the bias correction")


_NONE = 1e-300
"""An epsilon of nothing: it must be above 0."""


@formula
def epsilon_size(problem: Problem) -> Iterator[Intervention]:
    """Another default of ε."""
    for epsilon in (1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-16):
        if problem.optimizer.args.get("epsilon") not in (None, 0.0, epsilon):
            yield from with_args(problem, f"has an epsilon of {epsilon:g}", epsilon=epsilon)


@formula
def bias_correction(problem: Problem) -> Iterator[Intervention]:
    """One of Adam's corrections is missing, or both are."""
    yield from _uncorrected(problem, ("mean", "square"), "leaves both bias corrections out")
    yield from _uncorrected(problem, ("square",), "leaves the bias correction of the squares out")
    yield from _uncorrected(problem, ("mean",), "leaves the bias correction of the mean out")


def _uncorrected(problem: Problem, parts: tuple[str, ...], description: str) -> Iterator[Intervention]:
    """Adam's update, of which the corrections in `parts` are taken back."""
    args = problem.optimizer.args
    decoupled = args.get("weight_decay") and args.get("decoupled", True)
    if problem.optimizer.name in ("adam", "adamw") and not args.get("amsgrad") and not decoupled:
        yield Intervention(description, on_update=_recorrected(problem, parts))


def _recorrected(problem: Problem, parts: tuple[str, ...]) -> OnState:
    """Multiplies u = −η m̂ / (√(v̂ + ε_root) + ε) by the ratio of the altered denominator and mean, for any η."""
    args, every = problem.optimizer.args, problem.accumulation
    epsilon, root = args["epsilon"], args.get("epsilon_root", 0.0)

    def on_update(before: Snapshot, after: Snapshot) -> Snapshot:
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

    return on_update


@formula
def other_switch(problem: Problem) -> Iterator[Intervention]:
    """Every switch of the optimizer's row that has no explanation of its own."""
    named = {"epsilon_inside", "epsilon_corrected", "epsilon_added", "decoupled", "nesterov"}
    arguments: Mapping[str, Argument] = OPTIMIZERS[problem.optimizer.name].arguments
    for key, value in problem.optimizer.args.items():
        if isinstance(value, bool) and key not in named:
            how = "without" if value else "with"
            yield from with_args(problem, f"trains {how} {key} ({arguments[key].doc})", **{key: not value})


@formula
def preset(problem: Problem) -> Iterator[Intervention]:
    """The arguments in which a framework's defaults differ from the problem's; then all its defaults."""
    name, args = problem.optimizer.name, problem.optimizer.args
    for framework, theirs in OPTIMIZERS[name].presets.items():
        others = {key: value for key, value in theirs.items() if key != "learning_rate"}
        defaults = {
            key: value
            for key, value in Optimizer(name, **{"learning_rate": 1.0, **theirs}).args.items()
            if key in args
        }
        for changes in (others, {**defaults, "learning_rate": args["learning_rate"]}):
            if any(args[key] != value for key, value in changes.items()):
                yield from with_args(problem, f"follows the conventions of {framework}", **changes)


def with_args(problem: Problem, description: str, **changes: Any) -> Iterator[Intervention]:
    """Other arguments of the optimizer; nothing where they do not go together."""
    optimizer = problem.optimizer
    with suppress(ProblemError):
        altered = Optimizer(optimizer.name, **{**optimizer.args, **changes})
        yield Intervention(description, spec=problem.replace(optimizer=altered))
