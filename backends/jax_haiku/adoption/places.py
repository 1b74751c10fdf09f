"""Which leaves of a user's training state are parameters, which the optimizer's state, and what all of them are called."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.backends.adoption import AdoptionError, Tree
from lockstep.backends.jax_haiku.adoption.objects import is_of
from lockstep.backends.jax_haiku.adoption.parts import named, path
from lockstep.backends.steps import Chosen

PARAMETERS = ("params", "parameters")
"""Names under which a state holds its parameters."""

OPTIMIZER = ("opt_state", "optimizer_state", "optim_state")
"""Names under which it holds what its optimizer keeps."""

TRAINING = "flax.nnx.training"

LEAF = ":leaf"
"""Ends the name of what is carried and never compared: steps, keys, metrics."""

FIX = "say which: parameters='params', a path or a list of paths with * for any letters, or a function path -> bool"


class Place(NamedTuple):
    """Where a leaf stands in a snapshot: the kind of its arrays, and its name there."""

    kind: str
    name: str


@dataclass
class Roots:
    """Paths of what holds parameters, optimizers' states, and what is neither."""

    parameters: list[str] = field(default_factory=list)
    optimizers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def places_of(name: str, tree: Tree, chosen: Chosen) -> dict[str, Place]:
    """The place of every leaf that holds numbers, by its path.

    Args:
        name: of the trainer, for errors.
        tree: the user's state.
        chosen: the user's own choice of parameters.

    Raises:
        AdoptionError: it cannot be found which leaves are parameters, or there are none.
    """
    leaves = {at: leaf for at, leaf in named(tree).items() if _is_number(leaf)}
    roots = _roots(tree, leaves)
    if chosen is not None:
        selects = chosen if callable(chosen) else _matching([chosen] if isinstance(chosen, str) else chosen)
        parameters = {at for at in leaves if selects(at)}
        roots.parameters = [chosen] if isinstance(chosen, str) and "*" not in chosen else sorted(parameters)
    else:
        parameters = {at for at in leaves if _under(at, roots.parameters)}
    parameters = {at for at in parameters if _is_float(leaves[at])}
    if not parameters:
        raise AdoptionError(
            f"{name}: it is not clear which leaves of its state are parameters",
            f"{', '.join(list(leaves)[:8])}{f' and {len(leaves) - 8} others' if len(leaves) > 8 else ''}"
            if leaves
            else "a state without arrays",
            FIX,
        )
    return _named(leaves, parameters, roots, chosen is not None)


def _named(leaves: dict[str, Any], parameters: set[str], roots: Roots, is_chosen: bool) -> dict[str, Place]:
    prefix = _common(parameters, roots, is_chosen)
    names = {at: at.removeprefix(prefix) for at in parameters}
    several = len({_root(at, roots.optimizers) for at in leaves if _under(at, roots.optimizers)}) > 1
    places = {}
    for at, leaf in leaves.items():
        if at in parameters:
            places[at] = Place("parameters", _without_holder(names[at], prefix))
        elif _under(at, roots.others) or isinstance(leaf, (bool, int, float)):
            places[at] = Place("extra", at + LEAF)
        elif root := _root(at, roots.optimizers):
            places[at] = Place("optimizer", at if several else at.removeprefix(f"{root}/"))
        elif not _is_float(leaf):
            places[at] = Place("extra", at + LEAF)
        elif any(at.endswith(f"/{one}") and leaves[own].shape == leaf.shape for own, one in names.items()):
            places[at] = Place(
                "optimizer", at
            )  # a velocity of each parameter, of a step that updates by hand
        else:
            places[at] = Place("buffers", at.removeprefix(prefix))
    return places


def _common(parameters: set[str], roots: Roots, is_chosen: bool) -> str:
    """The path of the one holder of all parameters, with its slash; of single leaves, the part of the state that all are in."""
    holders = {_root(at, roots.parameters) for at in parameters}
    if len(holders) == 1:
        (holder,) = holders
        return f"{holder}/" if holder and holder not in parameters else ""
    first = {at.partition("/")[0] for at in parameters}
    others = {at.partition("/")[0] for at in (*roots.optimizers, *roots.others)}
    single = len(first) == 1 and (others or is_chosen) and first.isdisjoint({*others, *parameters})
    return f"{next(iter(first))}/" if single else ""


def _without_holder(name: str, prefix: str) -> str:
    """Of several models' parameters: ``generator/params/...`` is ``generator/...``."""
    if prefix:
        return name
    parts = name.split("/")
    at = next((place for place, one in enumerate(parts[:-1]) if one in PARAMETERS), None)
    return name if at is None else "/".join(parts[:at] + parts[at + 1 :])


def _roots(tree: Tree, leaves: dict[str, Any]) -> Roots:
    roots = Roots()
    _visit(tree, "", roots)
    if not roots.parameters and roots.optimizers:
        # (params, opt_state): of all that is not the optimizer's, one part holds floats.
        floats = [at for at, leaf in leaves.items() if _is_float(leaf) and not _under(at, roots.optimizers)]
        holders = sorted({at.partition("/")[0] for at in floats})
        roots.parameters = holders if len(holders) == 1 else []
    return roots


def _visit(node: Tree, at: str, roots: Roots) -> None:
    """Look for holders in a node, from the outside."""
    if _is_optimizer(node) or at.rpartition("/")[2] in OPTIMIZER:
        roots.optimizers.append(at)
    elif is_of(node, "equinox", "Module") or at.rpartition("/")[2] in PARAMETERS:
        roots.parameters.append(at)
    elif is_of(node, "flax.nnx", "Variable"):
        _visit_variable(node, at, roots)
    else:
        for key, child in _children(node):
            _visit(child, f"{at}/{key}" if at else key, roots)


def _visit_variable(node: Any, at: str, roots: Roots) -> None:
    if is_of(node, "flax.nnx", "Param"):
        roots.parameters.append(at)
    elif is_of(node, f"{TRAINING}.metrics", "MetricState") or is_of(
        node, f"{TRAINING}.optimizer", "OptState"
    ):
        roots.others.append(at)


def _is_optimizer(node: Tree) -> bool:
    """Whether it is a state of Optax', or a tuple of nothing else: that of a chain."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node).__module__.partition(".")[0] == "optax"
    return type(node) in (tuple, list) and len(node) > 0 and all(_is_optimizer(one) for one in node)


def _children(node: Tree) -> Iterator[tuple[str, Tree]]:
    entries, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda one: one is not node)
    yield from ((path(keys), child) for keys, child in entries if keys)


def _matching(patterns: Sequence[str]) -> Callable[[str], bool]:
    return lambda at: any(
        at == one or at.startswith(f"{one}/") or fnmatch.fnmatchcase(at, one) for one in patterns
    )


def _under(at: str, roots: Sequence[str]) -> bool:
    return any(not one or at == one or at.startswith(f"{one}/") for one in roots)


def _root(at: str, roots: Sequence[str]) -> str:
    """The holder that a path is under; nothing where there is none."""
    return next((one for one in roots if _under(at, [one])), "")


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float))


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
